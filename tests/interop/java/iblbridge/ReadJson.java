package iblbridge;

import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Paths;

/** Reads each line of a file as JSON and prints what it read as JSON, in ASCII; or why it refuses. */
public class ReadJson {
    public static void main(String[] words) throws Exception {
        for (String line : new String(Files.readAllBytes(Paths.get(words[0])), StandardCharsets.UTF_8).split("\n", -1)) {
            try {
                System.out.println(IblBridge.Json.write(IblBridge.Json.read(line)));
            } catch (IllegalArgumentException error) {
                System.out.println("refused: " + error.getMessage());
            }
        }
    }
}
