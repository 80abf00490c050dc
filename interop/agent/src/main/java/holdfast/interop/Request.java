package holdfast.interop;

import java.util.List;

/** One line of standard input. What an op does not need stays empty. */
final class Request {
  long id;
  String op;

  /** The client to use, and the worker thread to run on. */
  String client;

  String worker;

  /** lock, fair, multi or red, over these names; for red each name may have a client of its own. */
  String kind;

  List<String> names;
  List<String> clients;

  /** 0: no wait, or the watchdog. */
  long waitMillis;

  long leaseMillis;

  /** Whether a lock() of the worker can be interrupted. */
  boolean interruptible;

  /** Of open. */
  boolean cluster;

  List<String> addresses;
  long watchdogMillis;
  long fairWaitMillis;
  String prefix;

  /** Of stress. */
  long millis;

  long seed;
  List<Stress.Target> targets;
}
