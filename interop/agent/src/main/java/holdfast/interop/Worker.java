package holdfast.interop;

import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;

/** A named thread that runs what it is given, in order, for as long as the process lives. */
final class Worker {
  private final BlockingQueue<Runnable> deeds = new LinkedBlockingQueue<>();
  private final Thread thread;

  Worker(String name) {
    thread = new Thread(this::work, name);
    thread.setDaemon(true);
    thread.start();
  }

  void run(Runnable deed) {
    deeds.add(deed);
  }

  /** Interrupts the deed that it is at, if it waits. */
  boolean interrupt() {
    thread.interrupt();
    return true;
  }

  private void work() {
    while (true) {
      try {
        deeds.take().run();
      } catch (InterruptedException e) {
        // An interrupt that came between two deeds is meant for neither.
      }
    }
  }
}
