package holdfast.interop;

import java.lang.reflect.Method;
import java.lang.reflect.Proxy;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.redisson.Redisson;
import org.redisson.api.RedissonClient;
import org.redisson.config.BaseConfig;
import org.redisson.config.Config;

/** The Redisson clients of this process by name. */
final class Clients {
  private final Map<String, RedissonClient> open = new ConcurrentHashMap<>();

  /**
   * Makes a client with Redisson's own defaults for everything that matters on the wire; only its
   * pools are small, because there are many clients on a small machine. Returns its id.
   */
  String open(Request request) throws ReflectiveOperationException {
    Config config = new Config().setThreads(8).setNettyThreads(4);
    if (request.watchdogMillis > 0) {
      config.setLockWatchdogTimeout(request.watchdogMillis);
    }
    if (request.fairWaitMillis > 0) {
      config.setFairLockWaitTimeout(request.fairWaitMillis);
    }
    BaseConfig<?> servers = servers(config, request);
    if (request.prefix != null && !request.prefix.isEmpty()) {
      mapNames(config, servers, request.prefix);
    }
    RedissonClient client = Redisson.create(config);
    open.put(request.client, client);
    return client.getId();
  }

  private BaseConfig<?> servers(Config config, Request request) {
    if (request.cluster) {
      return config
          .useClusterServers()
          .addNodeAddress(request.addresses.toArray(new String[0]))
          .setMasterConnectionMinimumIdleSize(2)
          .setSlaveConnectionMinimumIdleSize(1);
    }
    return config
        .useSingleServer()
        .setAddress(request.addresses.get(0))
        .setConnectionMinimumIdleSize(2);
  }

  /** A NameMapper that adds a prefix. It has lived in two places, so it is found by name. */
  private void mapNames(Config config, BaseConfig<?> servers, String prefix)
      throws ReflectiveOperationException {
    for (Object owner : new Object[] {config, servers}) {
      for (Method method : owner.getClass().getMethods()) {
        if (method.getName().equals("setNameMapper")) {
          Class<?> type = method.getParameterTypes()[0];
          method.invoke(
              owner,
              Proxy.newProxyInstance(
                  type.getClassLoader(),
                  new Class<?>[] {type},
                  (proxy, called, args) -> {
                    String name = (String) args[0];
                    return called.getName().equals("map")
                        ? prefix + name
                        : name.substring(prefix.length());
                  }));
          return;
        }
      }
    }
    throw new NoSuchMethodException("setNameMapper");
  }

  RedissonClient get(String name) {
    RedissonClient client = open.get(name);
    if (client == null) {
      throw new IllegalArgumentException("no such client: " + name);
    }
    return client;
  }

  void close(String name) {
    open.remove(name).shutdown();
  }
}
