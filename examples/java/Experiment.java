import iblbridge.IblBridge;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.PrintStream;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/**
 * A whole experiment from Java. What an acquisition program does, without the acquisition.
 *
 * <pre>java Experiment SEGMENT [YYYY-MM-DD_N_SUBJECT [CLIENT]]</pre>
 *
 * Prepares and starts all services, watches for a while whether one of them gives up, asks what they do, and ends the
 * experiment. If a service fails, the others are stopped, and it says who failed and why. README.md tells how to build
 * and run it.
 */
public class Experiment {
    private static final int QUESTION_MS = 100; /* for a question that is not worth waiting for */
    private static final int EXPERIMENT_MS = 1000; /* how long the animal works */

    private final IblBridge rig;

    private Experiment(IblBridge rig) {
        this.rig = rig;
    }

    public static void main(String[] arguments) throws Exception {
        System.setOut(new PrintStream(new FileOutputStream(FileDescriptor.out), true, "UTF-8")); /* whatever the locale says */
        if (arguments.length < 1 || arguments.length > 3) {
            System.err.println("usage: java Experiment SEGMENT [YYYY-MM-DD_N_SUBJECT [CLIENT]]");
            System.exit(2);
        }
        String reference = arguments.length > 1 ? arguments[1] : "2026-01-01_1_subject";
        boolean fine = false;
        try (IblBridge rig = new IblBridge(arguments[0], arguments.length > 2 ? arguments[2] : "experiment")) {
            if (rig.warning() != 0)
                System.err.println(rig.lastError() + " (" + rig.warning() + ")");
            else
                fine = new Experiment(rig).run(reference);
        } catch (IblBridge.BridgeException error) {
            System.err.println(error.getMessage());
        }
        System.exit(fine ? 0 : 1);
    }

    private boolean run(String reference) throws InterruptedException {
        rig.subscribe(IblBridge.EXPINTERRUPT);
        if (!tell("EXPINIT", IblBridge.EXPINIT, null))
            return false;
        boolean fine = tell("EXPSTART", IblBridge.EXPSTART, IblBridge.arguments(reference));
        if (fine) {
            watch();
            fine = ask("EXPSTATUS", IblBridge.EXPSTATUS) && tell("EXPINFO", IblBridge.EXPINFO, null)
                && tell("EXPEND", IblBridge.EXPEND, null);
        }
        if (!fine) { /* a camera may run, even if no answer came */
            tell("EXPINTERRUPT", IblBridge.EXPINTERRUPT, null);
            return false;
        }
        return tell("EXPCLEANUP", IblBridge.EXPCLEANUP, null);
    }

    /** Sends a command to all services and waits until each has done it. Returns whether none failed. */
    private boolean tell(String name, int message, String arguments) throws InterruptedException {
        try {
            report(name, rig.call(message, arguments));
            return true;
        } catch (IblBridge.BridgeException error) {
            report(name, error);
            return false;
        }
    }

    /** Asks something that is given up if the answer takes too long. */
    private boolean ask(String name, int message) throws InterruptedException {
        CompletableFuture<IblBridge.Response> answer = rig.callAsync(message, null);
        try {
            report(name, answer.get(QUESTION_MS, TimeUnit.MILLISECONDS));
            return true;
        } catch (TimeoutException late) {
            answer.cancel(true);
            System.out.println(name + ": cancelled");
            return true;
        } catch (ExecutionException failed) {
            report(name, (IblBridge.BridgeException) failed.getCause());
            return false;
        }
    }

    /** Here the animal works; returns early if a service gives up. */
    private void watch() throws InterruptedException {
        try {
            IblBridge.Event event = rig.nextEvent(EXPERIMENT_MS);
            if (event != null)
                System.out.println("event " + event.event + " from " + event.service);
        } catch (IblBridge.BridgeException error) {
            report("event", error);
        }
    }

    private static void report(String name, IblBridge.Response response) {
        if (response.code > 0) /* such as W_STATUS: a service was told EXPEND, and says that it still runs */
            System.out.println(name + ": warning (" + response.code + "): " + response.error);
        else
            System.out.println(name + ": done");
        print(response);
    }

    private static void report(String name, IblBridge.BridgeException error) {
        System.out.println(name + ": failed (" + error.code + "): " + error.sentence);
        if (error.response != null)
            print(error.response);
    }

    /** What each service did, or what it said of itself. */
    private static void print(IblBridge.Response response) {
        for (IblBridge.Service service : response.services) {
            String words = service.state;
            if (!service.error.isEmpty())
                words += ", " + service.error;
            else if (response.message.equals("EXPINFO") && service.status >= 0)
                words = "status " + service.status + ", " + reference(service.data.get("info"));
            System.out.println("  " + service.name + ": " + words);
        }
    }

    /** The experiment it belongs to; a service may say anything about itself. */
    private static Object reference(Object info) {
        Object reference = info instanceof Map ? ((Map<?, ?>) info).get("exp_ref") : null;
        return reference == null ? "no experiment" : reference;
    }
}
