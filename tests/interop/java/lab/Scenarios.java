package lab; /* as a program of some size has one */

import iblbridge.IblBridge;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.PrintStream;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.Date;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.CancellationException;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

/** What scenarios.py asks of every client, with the Java one. */
public class Scenarios {
    private static final int MINUTE = 60000;

    public static void main(String[] words) throws Exception {
        System.setOut(new PrintStream(new FileOutputStream(FileDescriptor.out), true, "UTF-8"));
        Scenarios.class.getDeclaredMethod(words[0], String.class).invoke(null, words[1]);
    }

    static void say(Object... values) {
        String json = IblBridge.arguments(values);
        System.out.println(values.length == 1 ? json.substring(1, json.length() - 1) : json);
    }

    static IblBridge.BridgeException failure(Callable<?> command) throws Exception {
        try {
            command.call();
        } catch (IblBridge.BridgeException error) {
            return error;
        }
        throw new AssertionError("there was no error");
    }

    static Object answer(CompletableFuture<?> future) throws Exception {
        try {
            return future.get();
        } catch (ExecutionException failed) {
            throw (Exception) failed.getCause();
        }
    }

    static Object first(IblBridge.Service service) {
        List<?> values = (List<?>) service.data.get("value");
        return values == null ? "" : values.get(0);
    }

    static void sayError(Callable<?> command) throws Exception {
        IblBridge.BridgeException error = failure(command);
        List<Object> services = error.response == null ? null : new ArrayList<>();
        if (error.response != null)
            for (IblBridge.Service service : error.response.services)
                services.add(Arrays.asList(service.name, service.ok, service.state, first(service)));
        say(error.code, error.name, error.sentence, error.request, services);
    }

    static void codes(String segment) {
        Map<String, Object> names = new LinkedHashMap<>();
        for (int code = -9999; code < 10000; code++)
            if (!IblBridge.errorText(code).isEmpty())
                names.put("" + code, IblBridge.nameOf(code));
        say(names);
    }

    static void errors(String segment) throws Exception {
        try (IblBridge rig = new IblBridge(segment, "errors")) {
            sayError(() -> rig.call(IblBridge.EXPSTART, IblBridge.arguments("2026-01-01_1_Mäuschen→x🐭")));
            sayError(() -> rig.call(IblBridge.PING, null, "né🐭", 1000));
            sayError(() -> rig.await(12345, MINUTE));
            sayError(() -> new IblBridge("nowhere", null, 0));
        }
    }

    static void reasons(String segment) throws Exception {
        try (IblBridge rig = new IblBridge(segment, "reasons")) {
            List<Object> services = new ArrayList<>();
            for (IblBridge.Service service : failure(() -> rig.call(IblBridge.EXPINIT)).response.services)
                services.add(Arrays.asList(service.name, service.reason, service.status));
            say(services);
        }
    }

    static void surface(String segment) throws Exception {
        try (IblBridge rig = new IblBridge(segment, null)) {
            rig.subscribe(IblBridge.EXPINTERRUPT);
            say(rig.workerState().alive, rig.workerState().services);
            IblBridge.Response response = rig.call(IblBridge.EXPSTATUS, null, "ephys", MINUTE);
            say(response.message, response.code, new Object[] {response.services.get(0).name});
            long before = IblBridge.clockNs();
            response = rig.await(rig.send(IblBridge.EXPSTART, IblBridge.arguments("2026-01-01_1_subject"), null, MINUTE), MINUTE);
            IblBridge.Service ephys = response.service("ephys");
            say(before < response.sent && response.sent <= response.accepted && response.accepted <= ephys.sent && ephys.sent < ephys.echoed
                && ephys.echoed <= ephys.answered && ephys.answered <= response.finished && response.finished < IblBridge.clockNs()
                && response.wall.length() > 20);
            IblBridge.Event event = rig.nextEvent(MINUTE);
            say(event.event, event.message, event.service, event.sequence);
            say(rig.nextEvent(1) == null);
            rig.notify(IblBridge.EXPEND, null, null, 0);
            say("notified");
        }
    }

    /* How objects print. */
    static void prints(String segment) throws Exception {
        IblBridge rig = new IblBridge(segment, "prints");
        rig.subscribe(IblBridge.SERVICE_UP);
        IblBridge.Response response = rig.call(IblBridge.EXPINIT);
        say(rig.toString(), rig.workerState().toString(), response.services.toString(), response.toString().equals(response.json));
        rig.close();
        say(rig.toString());
    }

    static void exact(String segment) throws Exception {
        java.math.BigInteger most = new java.math.BigInteger("18446744073709551615");
        Object[] numbers = {9007199254740993L, -9007199254740993L, Long.MAX_VALUE, Long.MIN_VALUE, most, 9007199254740991L};
        try (IblBridge rig = new IblBridge(segment, "exact")) {
            IblBridge.Response response = rig.call(IblBridge.EXPINIT, IblBridge.arguments((Object) numbers));
            List<Object> said = new ArrayList<>();
            for (Object number : (List<?>) response.services.get(0).data.get("value"))
                said.add(number.toString());
            say((Object) said.toArray());
            say(Arrays.asList(numbers).equals(response.services.get(0).data.get("value")));
        }
    }

    static void large(String segment) throws Exception {
        StringBuilder reference = new StringBuilder();
        for (int i = 0; i < 4000; i++)
            reference.append('é');
        String arguments = IblBridge.arguments(reference);
        try (IblBridge rig = new IblBridge(segment, "large")) {
            int[] whole = {0, 0};
            for (IblBridge.Service service : rig.call(IblBridge.EXPSTART, arguments).services)
                whole[0] += first(service).equals(reference.toString()) ? 1 : 0;
            for (IblBridge.Service service : rig.await(rig.send(IblBridge.EXPSTART, arguments), MINUTE).services)
                whole[1] += first(service).equals(reference.toString()) ? 1 : 0;
            say(whole[0], whole[1]);
        }
    }

    static void many(String segment) throws Exception {
        try (IblBridge rig = new IblBridge(segment, "many")) {
            Map<String, CompletableFuture<IblBridge.Response>> answers = new LinkedHashMap<>();
            for (int i = 0; i < 20; i++)
                answers.put("async-" + i, rig.callAsync(IblBridge.EXPSTART, IblBridge.arguments("async-" + i), null, MINUTE));
            AtomicInteger right = new AtomicInteger();
            List<Thread> threads = new ArrayList<>();
            for (int i = 0; i < 20; i++) {
                String reference = "thread-" + i;
                threads.add(new Thread(() -> {
                    try {
                        for (IblBridge.Service service : rig.call(IblBridge.EXPSTART, IblBridge.arguments(reference), null, MINUTE).services)
                            right.addAndGet(first(service).equals(reference) ? 1 : 0);
                    } catch (InterruptedException | IblBridge.BridgeException error) {
                        error.printStackTrace();
                    }
                }));
                threads.get(i).start();
            }
            for (Thread thread : threads)
                thread.join();
            for (Map.Entry<String, CompletableFuture<IblBridge.Response>> answer : answers.entrySet())
                for (IblBridge.Service service : answer.getValue().get().services)
                    right.addAndGet(first(service).equals(answer.getKey()) ? 1 : 0);
            say(right.get());
        }
    }

    static void cancel(String segment) throws Exception {
        try (IblBridge rig = new IblBridge(segment, "cancel")) {
            CompletableFuture<IblBridge.Response> answer = rig.callAsync(IblBridge.EXPINIT, null, null, MINUTE);
            String said = answer.cancel(true) ? "cancelled" : "not cancelled";
            try {
                answer.get();
                said = "answered";
            } catch (CancellationException right) {
                int next = rig.send(IblBridge.PING, null);
                if (failure(() -> rig.await(next - 1, 0)).code != IblBridge.E_REQUEST)
                    said = "only the future was cancelled";
            }
            say(said);
            say(rig.call(IblBridge.PING).code);
        }
    }

    static void late(String segment) throws Exception {
        try (IblBridge rig = new IblBridge(segment, "late")) {
            for (int i = 0; i < 2; i++) {
                IblBridge.BridgeException error = failure(() -> rig.call(IblBridge.EXPINIT, null, null, 300));
                say(error.code, error.request);
            }
        }
    }

    /* As String.join makes of a list of which nothing is left: to C it would stand for all services. */
    static void nobody(String segment) throws Exception {
        try (IblBridge rig = new IblBridge(segment, "nobody")) {
            String none = String.join(",", Collections.<String>emptyList());
            List<Boolean> refused = new ArrayList<>();
            int before = rig.send(IblBridge.PING, null);
            for (Callable<?> command : Arrays.<Callable<?>>asList(() -> rig.call(IblBridge.EXPINIT, null, none, 2000),
                    () -> rig.callAsync(IblBridge.EXPINIT, null, " ", 2000), () -> rig.send(IblBridge.EXPINIT, null, none, 0), () -> {
                        rig.notify(IblBridge.EXPINIT, null, none, 0);
                        return null;
                    }))
                try {
                    command.call();
                } catch (IllegalArgumentException right) {
                    refused.add(true);
                }
            say(refused);
            say(rig.send(IblBridge.PING, null) - before - 1);
        }
    }

    static void negative(String segment) throws Exception {
        try (IblBridge rig = new IblBridge(segment, "negative")) {
            List<String> names = new ArrayList<>();
            int before = rig.send(IblBridge.PING, null);
            for (Callable<?> wait : Arrays.<Callable<?>>asList(
                    () -> rig.call(IblBridge.EXPSTART, null, null, -1), () -> answer(rig.callAsync(IblBridge.EXPSTART, null, null, -1)),
                    () -> rig.await(1, -1), () -> rig.nextEvent(-1), () -> new IblBridge(segment, "other", -1)))
                names.add(failure(wait).name);
            say(names);
            say(rig.send(IblBridge.PING, null) - before - 1);
        }
    }

    static void unsayable(String segment) {
        List<Object> endless = new ArrayList<>(), refused = new ArrayList<>();
        endless.add(endless);
        for (Object value : new Object[] {new Object(), new Date(), TimeUnit.DAYS, Double.NaN, Float.NEGATIVE_INFINITY, endless,
                Collections.singletonMap(1, 2), Collections.singletonMap(null, 2), new Object[] {1, new Date()}}) {
            try {
                refused.add(IblBridge.arguments("fine", value));
            } catch (IllegalArgumentException right) {
                refused.add(true);
            }
        }
        say(refused);
        say("text", 'c', new StringBuilder("b"), 1, 2L, 1.5e300, (byte) 3, new java.math.BigDecimal("1E+3"), true, null, new int[] {1},
            Collections.singletonMap("key", Arrays.asList(1, "x")));
    }

    /* An interrupt ends each kind of wait; a call takes its request with it. */
    static void interrupt(String segment) throws Exception {
        try (IblBridge rig = new IblBridge(segment, "interrupt")) {
            int request = rig.send(IblBridge.EXPINIT, null);
            for (Callable<?> wait : Arrays.<Callable<?>>asList(
                    () -> rig.await(request, MINUTE), () -> rig.nextEvent(MINUTE), () -> rig.call(IblBridge.EXPINIT, null, null, MINUTE))) {
                CompletableFuture<String> ended = new CompletableFuture<>();
                Thread thread = new Thread(() -> {
                    try {
                        wait.call();
                        ended.complete("returned");
                    } catch (Exception error) {
                        ended.complete(error.getClass().getSimpleName());
                    }
                });
                thread.start();
                Thread.sleep(50);
                thread.interrupt();
                say(ended.get());
            }
            say(failure(() -> rig.await(request, 0)).code, failure(() -> rig.await(request + 1, 0)).code);
        }
    }

    static void close(String segment) throws Exception {
        IblBridge rig = new IblBridge(segment, "close");
        int request = rig.send(IblBridge.EXPINIT, null);
        AtomicInteger waited = new AtomicInteger();
        AtomicInteger watched = new AtomicInteger();
        CountDownLatch begun = new CountDownLatch(2);
        List<Thread> threads = new ArrayList<>();
        Map<AtomicInteger, Callable<?>> waits = new LinkedHashMap<>();
        waits.put(waited, () -> rig.await(request, MINUTE));
        waits.put(watched, () -> rig.nextEvent(MINUTE));
        for (Map.Entry<AtomicInteger, Callable<?>> wait : waits.entrySet()) {
            Thread thread = new Thread(() -> {
                begun.countDown();
                try {
                    wait.getKey().set(failure(wait.getValue()).code);
                } catch (Exception error) {
                    error.printStackTrace();
                }
            });
            threads.add(thread);
            thread.start();
        }
        begun.await();
        Thread.sleep(300); /* and are in the library by now */
        rig.close();
        for (Thread thread : threads)
            thread.join();
        rig.close();
        say(waited.get(), watched.get());
        say(failure(() -> rig.call(IblBridge.PING)).code);
    }

    static void slots(String segment) throws Exception {
        int opened = 0;
        for (int i = 0; i < 40; i++) {
            try (IblBridge rig = new IblBridge(segment, "slots-" + i)) {
                opened += rig.call(IblBridge.PING).code == 0 ? 1 : 0;
            }
        }
        say(opened);
    }

    static void death(String segment) throws Exception {
        try (IblBridge rig = new IblBridge(segment, "death")) {
            int request = rig.send(IblBridge.EXPINIT, null, null, -1);
            say(request);
            IblBridge.BridgeException lost = failure(() -> rig.await(request, MINUTE));
            say(lost.code, lost.name, lost.request);
            say(failure(() -> rig.nextEvent(MINUTE)).code);
            while (!rig.workerState().alive)
                Thread.sleep(5);
            IblBridge.BridgeException unknown = failure(() -> rig.await(request, MINUTE));
            say(unknown.code, unknown.request);
        }
    }

    static void killed(String segment) throws Exception {
        try (IblBridge rig = new IblBridge(segment, "killed")) {
            say("calls");
            IblBridge.BridgeException error = failure(() -> rig.call(IblBridge.EXPINIT, null, null, MINUTE));
            say(error.code, error.getMessage(), error.request);
        }
    }

    static void alone(String segment) throws Exception {
        try (IblBridge rig = new IblBridge(segment, "alone", 100)) {
            say(rig.warning(), rig.workerState().alive);
            String arguments = IblBridge.arguments("2026-01-01_1_subject");
            IblBridge.BridgeException error = failure(() -> answer(rig.callAsync(IblBridge.EXPSTART, arguments, null, MINUTE)));
            say(error.code, error.request);
            while (!rig.workerState().alive)
                Thread.sleep(5);
            say(rig.call(IblBridge.EXPINIT).code);
        }
    }
}
