import iblbridge.IblBridge;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.PrintStream;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** What test_cameras.py asks of every kit that serves, with the Java one. */
public class Serving {
    private static final IblBridge RIG = new IblBridge("rig0", "program");

    private interface Scene {
        void with(IblBridge.Command command) throws Exception;
    }

    private static void say(Object value) {
        String list = IblBridge.arguments(value);
        System.out.println(list.substring(1, list.length() - 1));
    }

    /* What a loop does with each command. */
    private static void each(Scene scene) throws Exception {
        for (;;) {
            try (IblBridge.Command command = RIG.nextCommand(1000)) {
                if (command != null)
                    scene.with(command);
            }
        }
    }

    private static boolean refused(Runnable call) {
        try {
            call.run();
            return false;
        } catch (IllegalArgumentException | IblBridge.BridgeException error) {
            return true;
        }
    }

    public static void main(String[] words) throws Exception {
        System.setOut(new PrintStream(new FileOutputStream(FileDescriptor.out), true, "UTF-8"));
        RIG.serve(words[0].equals("attempt") ? null : "cameras");
        switch (words[0]) {
        case "show": show(); break;
        case "leave": leave(); break;
        case "attempt": attempt(); break;
        case "throw": thrown(); break;
        case "late": late(); break;
        case "wrong": wrong(); break;
        case "busy": busy(); break;
        case "close": close(); break;
        default: stop(); break;
        }
    }

    private static void show() throws Exception {
        long before = IblBridge.clockNs();
        each(command -> {
            Map<String, Object> shown = new LinkedHashMap<>();
            shown.put("service", command.service);
            shown.put("master", command.master);
            shown.put("message", command.message);
            shown.put("args", command.args);
            shown.put("timeout_ms", command.timeoutMs);
            boolean fine = before < command.time && command.time <= IblBridge.clockNs();
            shown.put("stamps", fine && command.wall.startsWith("20") && command.command > 0 && command.toString().startsWith("{"));
            say(shown);
            command.answer(IblBridge.STATUS_CONNECTED, Collections.singletonMap("file", "é.avi"));
        });
    }

    private static void leave() throws Exception {
        List<String> taken = new ArrayList<>();
        each(command -> {
            taken.add(command.message);
            if (taken.size() < 2)
                return;
            command.answer();
            say(taken);
        });
    }

    private static void attempt() throws Exception {
        each(command -> {
            int code = command.attempt(asked -> {
                if (asked.message.equals("EXPSTART"))
                    throw new IllegalStateException("the lens is gone 🐭");
                return 5;
            });
            say(new Object[] {command.error() == null ? "" : command.error().getMessage(), code});
        });
    }

    private static void thrown() throws Exception {
        try {
            each(command -> {
                throw new IllegalStateException("the lens is gone");
            });
        } catch (IllegalStateException error) {
            RIG.serve("cameras", 0);
            say(error.getMessage());
        }
        Thread.sleep(60000);
    }

    private static void late() throws Exception {
        say("serving");
        each(command -> {
            if (command.message.equals("EXPSTART"))
                Thread.sleep(500);
            say(command.answer());
        });
    }

    private static void wrong() throws Exception {
        each(command -> {
            List<Object> results = new ArrayList<>();
            char[] large = new char[70000];
            for (Runnable call : new Runnable[] {
                () -> command.answer(Double.NaN), () -> command.answer(new Object()), () -> command.answer(5, null),
                () -> command.answer(String.valueOf(large)), () -> command.fail("a\0b"), () -> RIG.tell(IblBridge.EXPSTART),
                () -> RIG.tell(IblBridge.EXPSTATUS), () -> RIG.tell(3, 5), () -> RIG.serve("ephys"), () -> RIG.serve("cameras", IblBridge.PING),
                () -> command.answer(Collections.singletonMap(5, 5))})
                results.add(refused(call));
            command.answer(Collections.singletonMap("done", true));
            results.add(refused(command::answer));
            say(results.size());
            say(results);
        });
    }

    private static void busy() throws Exception {
        each(command -> {
            say(command.message);
            command.attempt(asked -> {
                if (asked.message.equals("EXPSTART")) {
                    while (!asked.interrupted() || !Thread.currentThread().isInterrupted())
                        Thread.yield();
                    say("interrupted");
                }
                return null; /* and the interrupt of this thread is over */
            });
        });
    }

    private static void close() throws Exception {
        try {
            each(command -> {
                new Thread(RIG::close).start();
                int code = command.attempt(asked -> {
                    Thread.sleep(60000);
                    return null;
                });
                say(new Object[] {code, command.error() != null});
            });
        } catch (IblBridge.BridgeException error) {
            say(error.code == IblBridge.E_HANDLE ? "over" : error.name);
        }
    }

    private static void stop() throws Exception {
        each(command -> {
            command.answer();
            RIG.serve("cameras", 0);
            say("stopped");
            Thread.sleep(60000);
        });
    }
}
