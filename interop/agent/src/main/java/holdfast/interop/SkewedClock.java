package holdfast.interop;

import static net.bytebuddy.matcher.ElementMatchers.any;
import static net.bytebuddy.matcher.ElementMatchers.named;

import net.bytebuddy.ByteBuddy;
import net.bytebuddy.asm.MemberSubstitution;
import net.bytebuddy.dynamic.ClassFileLocator;
import net.bytebuddy.dynamic.loading.ClassLoadingStrategy;
import net.bytebuddy.pool.TypePool;

/**
 * Gives Redisson's fair lock a clock that is wrong, as if this machine's were: it is the one lock
 * here whose scripts carry the caller's time.
 */
public final class SkewedClock {
  private static volatile long skewMillis;

  private SkewedClock() {}

  /** What System.currentTimeMillis() is replaced by. */
  public static long now() {
    return System.currentTimeMillis() + skewMillis;
  }

  /** Before the class is used for the first time. Needs java.base/java.lang to be open. */
  static void install(long millis) {
    skewMillis = millis;
    ClassLoader loader = SkewedClock.class.getClassLoader();
    TypePool pool = TypePool.Default.of(loader);
    try {
      new ByteBuddy()
          .redefine(
              pool.describe("org.redisson.RedissonFairLock").resolve(),
              ClassFileLocator.ForClassLoader.of(loader))
          .visit(
              MemberSubstitution.relaxed()
                  .method(named("currentTimeMillis"))
                  .replaceWith(SkewedClock.class.getMethod("now"))
                  .on(any()))
          .make()
          .load(loader, ClassLoadingStrategy.Default.INJECTION);
    } catch (NoSuchMethodException e) {
      throw new IllegalStateException(e);
    }
  }
}
