package holdfast.interop;

/** One line of standard output. */
final class Reply {
  long id;
  Object value;

  /** The class of what was thrown, and what it says. */
  String error;

  String message;

  /** Nanoseconds of the machine's monotonic clock, the one that the driver reads too. */
  long start;

  long end;

  /** Id of the thread it ran on. */
  long thread;
}
