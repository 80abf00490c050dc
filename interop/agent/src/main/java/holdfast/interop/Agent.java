package holdfast.interop;

import com.google.gson.Gson;
import java.io.BufferedReader;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/**
 * Redisson clients in one process, driven by another one: a request is a line of JSON on standard
 * input, its reply a line on standard output with the same id, in whatever order they are done. It
 * ends, without any farewell to Redis, when standard input does.
 *
 * <p>A request that names a worker runs on the thread of that name, one after the other, because a
 * thread is what owns a Redisson lock.
 */
public final class Agent {
  private final Gson gson = new Gson();
  private final PrintStream out;
  private final Clients clients = new Clients();
  private final Map<String, Worker> workers = new ConcurrentHashMap<>();
  private final ExecutorService others = Executors.newCachedThreadPool();

  private Agent(PrintStream out) {
    this.out = out;
  }

  public static void main(String[] args) throws IOException {
    // What Redisson logs goes to standard error, and nothing else may write a reply.
    PrintStream replies =
        new PrintStream(new FileOutputStream(FileDescriptor.out), true, StandardCharsets.UTF_8);
    System.setOut(System.err);
    String skew = System.getProperty("holdfast.skewMillis");
    if (skew != null) {
      SkewedClock.install(Long.parseLong(skew));
    }
    new Agent(replies).serve();
    Runtime.getRuntime().halt(0);
  }

  private void serve() throws IOException {
    BufferedReader in =
        new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line = in.readLine(); line != null; line = in.readLine()) {
      Request request = gson.fromJson(line, Request.class);
      if (request.op.equals("interrupt")) {
        answer(request, () -> worker(request).interrupt());
      } else if (request.worker != null) {
        worker(request).run(() -> answer(request, () -> new Locks(clients, request).run()));
      } else {
        others.execute(() -> answer(request, () -> manage(request)));
      }
    }
  }

  private Worker worker(Request request) {
    return workers.computeIfAbsent(request.worker, Worker::new);
  }

  private Object manage(Request request) throws Exception {
    switch (request.op) {
      case "version":
        return Versions.redisson();
      case "open":
        return clients.open(request);
      case "close":
        clients.close(request.client);
        return true;
      default:
        throw new IllegalArgumentException("no such op: " + request.op);
    }
  }

  private interface Deed {
    Object run() throws Exception;
  }

  private void answer(Request request, Deed deed) {
    Reply reply = new Reply();
    reply.id = request.id;
    reply.start = System.nanoTime();
    try {
      reply.value = deed.run();
    } catch (Throwable e) {
      reply.error = e.getClass().getName();
      reply.message = String.valueOf(e.getMessage());
    }
    reply.end = System.nanoTime();
    reply.thread = Thread.currentThread().getId();
    String line = gson.toJson(reply);
    synchronized (out) {
      out.println(line);
    }
  }
}
