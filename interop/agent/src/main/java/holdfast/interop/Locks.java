package holdfast.interop;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.redisson.api.RLock;
import org.redisson.api.RedissonClient;

/** One call of one lock, on the thread that is to own it. */
final class Locks {
  private final Clients clients;
  private final Request request;

  Locks(Clients clients, Request request) {
    this.clients = clients;
    this.request = request;
  }

  Object run() throws InterruptedException {
    if (request.op.equals("stress")) {
      return new Stress(clients, request).run();
    }
    RLock lock = lock();
    switch (request.op) {
      case "lock":
        return acquire(lock);
      case "tryLock":
        return attempt(lock);
      case "unlock":
        lock.unlock();
        return true;
      case "forceUnlock":
        return lock.forceUnlock();
      case "isLocked":
        return lock.isLocked();
      case "isHeld":
        return lock.isHeldByCurrentThread();
      case "holdCount":
        return lock.getHoldCount();
      case "ttl":
        return lock.remainTimeToLive();
      default:
        throw new IllegalArgumentException("no such op: " + request.op);
    }
  }

  private Object acquire(RLock lock) throws InterruptedException {
    if (request.interruptible && request.leaseMillis > 0) {
      lock.lockInterruptibly(request.leaseMillis, TimeUnit.MILLISECONDS);
    } else if (request.interruptible) {
      lock.lockInterruptibly();
    } else if (request.leaseMillis > 0) {
      lock.lock(request.leaseMillis, TimeUnit.MILLISECONDS);
    } else {
      lock.lock();
    }
    return true;
  }

  private boolean attempt(RLock lock) throws InterruptedException {
    if (request.leaseMillis > 0) {
      return lock.tryLock(request.waitMillis, request.leaseMillis, TimeUnit.MILLISECONDS);
    }
    if (request.waitMillis > 0) {
      return lock.tryLock(request.waitMillis, TimeUnit.MILLISECONDS);
    }
    return lock.tryLock();
  }

  private RLock lock() {
    return of(clients, request.client, request.clients, request.kind, request.names);
  }

  /** A lock of that kind; members, where they are given, names a client for each member. */
  @SuppressWarnings("deprecation") // RedLock is, and is used all the same
  static RLock of(Clients clients, String client, List<String> members, String kind, List<String> names) {
    RedissonClient redisson = clients.get(client);
    switch (kind) {
      case "lock":
        return redisson.getLock(names.get(0));
      case "fair":
        return redisson.getFairLock(names.get(0));
      default:
        List<RLock> locks = new ArrayList<>();
        for (int i = 0; i < names.size(); i++) {
          boolean own = members != null && !members.isEmpty();
          locks.add((own ? clients.get(members.get(i)) : redisson).getLock(names.get(i)));
        }
        RLock[] all = locks.toArray(new RLock[0]);
        return kind.equals("red") ? redisson.getRedLock(all) : redisson.getMultiLock(all);
    }
  }
}
