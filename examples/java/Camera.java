import iblbridge.IblBridge;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.PrintStream;
import java.util.Collections;
import java.util.HashMap;
import java.util.Map;
import java.util.Timer;
import java.util.TimerTask;

/**
 * A simulated camera that masters command: your program as a service, in Java.
 *
 * <pre>java Camera SEGMENT [SERVICE [WARM_UP_S [DIES_AFTER_S]]]</pre>
 *
 * EXPINIT warms it up, EXPSTART begins a file, EXPEND ends it and says how many frames are in it, EXPINTERRUPT stops it
 * at once, also while it warms up. With DIES_AFTER_S it dies in the middle of a recording, and says so. Ctrl-C ends it.
 * README.md tells how to build and run it.
 */
public class Camera {
    private static final int FRAME_MS = 10;

    private final IblBridge rig;
    private final long warmUpMs;
    private final long diesAfterMs;
    private Timer timer = new Timer(true);
    private boolean isWarm;
    private int frames;

    private Camera(IblBridge rig, double warmUp, double diesAfter) {
        this.rig = rig;
        warmUpMs = Math.round(warmUp * 1000);
        diesAfterMs = Math.round(diesAfter * 1000);
    }

    public static void main(String[] arguments) throws Exception {
        System.setOut(new PrintStream(new FileOutputStream(FileDescriptor.out), true, "UTF-8")); /* whatever the locale says */
        if (arguments.length < 1 || arguments.length > 4) {
            System.err.println("usage: java Camera SEGMENT [SERVICE [WARM_UP_S [DIES_AFTER_S]]]");
            System.exit(2);
        }
        double warmUp = arguments.length > 2 ? Double.parseDouble(arguments[2]) : 0.1;
        double diesAfter = arguments.length > 3 ? Double.parseDouble(arguments[3]) : 0;
        try (IblBridge rig = new IblBridge(arguments[0], "camera")) {
            Runtime.getRuntime().addShutdownHook(new Thread(rig::close)); /* Ctrl-C is an orderly end */
            new Camera(rig, warmUp, diesAfter).serve(arguments[0], arguments.length > 1 ? arguments[1] : null);
        } catch (IblBridge.BridgeException error) {
            if (error.code == IblBridge.E_CLOSED || error.code == IblBridge.E_HANDLE)
                return; /* by the hook */
            System.err.println(error.getMessage());
            System.exit(1);
        }
    }

    private void serve(String segment, String service) throws InterruptedException {
        rig.serve(service);
        System.out.println("serving " + (service == null ? "the listener" : service) + " at " + segment);
        for (;;) {
            try (IblBridge.Command command = rig.nextCommand(1000)) {
                if (command == null)
                    continue;
                System.out.println(command.message + " from " + command.master);
                int code = command.attempt(this::obey);
                System.out.println(command.message + ": " + outcome(code, command.error()));
            }
        }
    }

    /* What became of a command. */
    private static String outcome(int code, Throwable error) {
        if (code == IblBridge.E_LATE)
            return "too late, its master was told that it failed";
        return error == null ? "done" : "failed, " + error.getMessage();
    }

    /* What masters may ask of it: what it returns is the answer, and what it throws they are told. */
    private Map<String, Object> obey(IblBridge.Command command) throws InterruptedException {
        switch (command.message) {
        case "EXPINIT":
            Thread.sleep(warmUpMs); /* an EXPINTERRUPT ends it */
            isWarm = true;
            return null;
        case "EXPSTART":
            return start(command.args.get(0));
        default: /* EXPEND, EXPINTERRUPT, EXPCLEANUP */
            stop();
            return Collections.singletonMap("frames", frames);
        }
    }

    private synchronized Map<String, Object> start(Object reference) {
        if (!isWarm)
            throw new IllegalStateException("The camera is cold. Send EXPINIT first.");
        stop();
        frames = 0;
        timer = new Timer(true);
        timer.scheduleAtFixedRate(task(this::record), FRAME_MS, FRAME_MS);
        if (diesAfterMs > 0)
            timer.schedule(task(this::die), diesAfterMs);
        return Collections.singletonMap("file", reference + ".avi");
    }

    private synchronized void record() {
        frames++;
    }

    private synchronized void stop() {
        timer.cancel();
    }

    private synchronized void die() {
        stop();
        isWarm = false;
        Map<String, Object> what = new HashMap<>();
        what.put("why", "The camera died.");
        what.put("frames", frames);
        rig.tell(IblBridge.EXPINTERRUPT, what);
    }

    private static TimerTask task(Runnable work) {
        return new TimerTask() {
            @Override
            public void run() {
                work.run();
            }
        };
    }
}
