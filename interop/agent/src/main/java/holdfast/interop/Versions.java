package holdfast.interop;

import java.io.IOException;
import java.io.InputStream;
import java.util.Properties;
import org.redisson.Redisson;

/** Tells which Redisson is on the class path. */
final class Versions {
  private Versions() {}

  static String redisson() throws IOException {
    try (InputStream in =
        Redisson.class.getResourceAsStream("/META-INF/maven/org.redisson/redisson/pom.properties")) {
      Properties properties = new Properties();
      properties.load(in);
      return properties.getProperty("version");
    }
  }
}
