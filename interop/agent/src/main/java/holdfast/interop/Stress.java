package holdfast.interop;

import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.concurrent.TimeUnit;
import org.redisson.api.RLock;
import org.redisson.api.RScript;
import org.redisson.client.codec.StringCodec;

/**
 * One worker's share of the stress: locks, in a mixture of ways, and inside of the lock adds one to
 * a counter without any atomicity, for each name that the lock covers. A second one inside at the
 * same time is seen at once by a key that each sets on entering, and later by the counter.
 */
final class Stress {
  /** A lock to choose, and the names that it covers. */
  static final class Target {
    String kind;
    List<String> names;
  }

  /** What one worker did. */
  static final class Tally {
    int sections;
    int refused;
    List<Integer> perTarget = new ArrayList<>();
    List<String> wrong = new ArrayList<>();
  }

  private static final long WAIT = 5_000;
  private static final long LEASE = 20_000;

  private final Clients clients;
  private final Request request;
  private final Random random;
  private final RScript script;
  private final Tally tally = new Tally();

  Stress(Clients clients, Request request) {
    this.clients = clients;
    this.request = request;
    this.random = new Random(request.seed);
    this.script = clients.get(request.client).getScript(StringCodec.INSTANCE);
    request.targets.forEach(target -> tally.perTarget.add(0));
  }

  Tally run() {
    long end = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(request.millis);
    while (System.nanoTime() < end) {
      int chosen = random.nextInt(request.targets.size());
      try {
        once(chosen);
      } catch (Exception e) {
        wrong(request.targets.get(chosen) + ": " + e);
      }
    }
    return tally;
  }

  private void once(int chosen) throws InterruptedException {
    Target target = request.targets.get(chosen);
    RLock lock = Locks.of(clients, request.client, request.clients, target.kind, target.names);
    if (!acquire(lock)) {
      tally.refused++;
      return;
    }
    boolean again = random.nextInt(4) == 0;
    if (again) {
      lock.lock();
    }
    try {
      for (String name : target.names) {
        inside(name);
      }
      tally.sections++;
      tally.perTarget.set(chosen, tally.perTarget.get(chosen) + 1);
    } finally {
      if (again) {
        lock.unlock();
      }
      lock.unlock();
    }
  }

  private boolean acquire(RLock lock) throws InterruptedException {
    switch (random.nextInt(4)) {
      case 0:
        lock.lock();
        return true;
      case 1:
        return lock.tryLock(WAIT, TimeUnit.MILLISECONDS);
      case 2:
        return lock.tryLock(WAIT, LEASE, TimeUnit.MILLISECONDS);
      default:
        return lock.tryLock();
    }
  }

  private void inside(String name) {
    String me = "java " + Thread.currentThread().getName();
    String other =
        eval("return redis.call('SET', KEYS[1], ARGV[1], 'NX') and '' or redis.call('GET', KEYS[1])", "inside:{" + name + "}", me);
    if (!other.isEmpty()) {
      wrong(name + ": " + other + " is inside with " + me);
    }
    String count = eval("return redis.call('GET', KEYS[1]) or '0'", "count:{" + name + "}");
    eval("return redis.call('SET', KEYS[1], ARGV[1]) and ''", "count:{" + name + "}", String.valueOf(Long.parseLong(count) + 1));
    eval("redis.call('DEL', KEYS[1]) return ''", "inside:{" + name + "}");
  }

  /** On the master, where a plain read may ask a replica. */
  private String eval(String text, String key, Object... args) {
    return script.eval(RScript.Mode.READ_WRITE, text, RScript.ReturnType.VALUE, List.of(key), args);
  }

  private void wrong(String what) {
    if (tally.wrong.size() < 10) {
      tally.wrong.add(what);
    }
  }
}
