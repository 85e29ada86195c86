// Checks.cs: what test_csharp.py asks of the C# client. The first argument names a method here; exit status 0 if all it
// checks is so, else 1 and what was not on standard error. Say("...") waits for a line of the test's.
using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Linq;
using System.Runtime.CompilerServices;
using System.Threading;
using System.Threading.Tasks;
using IblBridge;

sealed class Checks : Checking
{
    static int Main(string[] arguments)
    {
        return Run(typeof(Checks), arguments);
    }

    static BridgeClient Open(string name = "checks")
    {
        return new BridgeClient("rig0", name, 60000); // the worker may be just starting
    }

    // -- errors

    static void ObjectsPrintWhatTheyAre()
    {
        var client = new BridgeClient("rig0", "prints");
        Response response = client.Call(Message.EXPINIT);
        Same("cameras: answered", response.Services[0].ToString());
        Same("EXPINIT ok; cameras: answered", response.ToString());
        Same("alive, 1 of 1 services heard", client.State.ToString());
        Same("BridgeClient of rig0 \"prints\"", client.ToString());
        client.Dispose();
        Same("BridgeClient of rig0 \"prints\", closed", client.ToString());
    }

    static void ErrorsCarryAll()
    {
        using (var client = Open())
        {
            foreach (Func<Action> way in new Func<Action>[]
            {
                () => () => client.Call(Message.EXPSTART, BridgeClient.Arguments("x")),
                () => () => client.CallAsync(Message.EXPSTART, BridgeClient.Arguments("x")).Wait(),
                () => () => client.Wait(client.Send(Message.EXPSTART, BridgeClient.Arguments("x")), 5000),
                () => () => client.WaitAsync(client.Send(Message.EXPSTART, BridgeClient.Arguments("x")), 5000).Wait(),
            })
            {
                var error = Throws<BridgeException>(way());
                Same(Status.E_PARTIAL, error.Code);
                Same("IBLB_E_PARTIAL", error.CodeName);
                Same(true, error.Sentence.Contains("ephys:ä→😀") && error.Sentence.Contains("was told to refuse"));
                Same(error.Sentence + " (IBLB_E_PARTIAL, -8070)", error.Message);
                Same(0, error.Request);
                Same(error.Code, error.Response.Code);
                Same("EXPSTART", error.Response.Message);
                ServiceOutcome cameras = error.Response.Services[0], ephys = error.Response.Services[1];
                Same("cameras", cameras.Name);
                Same(true, cameras.Ok && cameras.State == "answered" && cameras.Error == "");
                Same("x", ((List<object>)cameras.Data["value"])[0]);
                Same("ephys:ä→😀", ephys.Name);
                Same(false, ephys.Ok || ephys.Error == "");
                Same("", cameras.Reason);
                Same(Reason.CallbackFailed, ephys.Reason);
                Same(-1, ephys.Status);
                Same("EXPSTART -8070; cameras: answered; ephys:ä→😀: echoed (callback_failed)",
                    error.Response.ToString());
            }
            // Without a response it is the library's own sentence, with its escapes read.
            var unknown = Throws<BridgeException>(() => client.Call(Message.EXPINIT, null, "nowhere:ä→😀"));
            Same(Status.E_SERVICE, unknown.Code);
            Same(true, unknown.Sentence.Contains("\"nowhere:ä→😀\""), unknown.Sentence);
            Same(null, unknown.Response);
            unknown = Throws<BridgeException>(() => client.CallAsync(Message.PING, null, "nowhere").Wait());
            Same(Status.E_SERVICE, unknown.Code);
            Same(Status.E_JSON, Throws<BridgeException>(() => client.Notify(Message.EXPINIT, "[1")).Code);
            Same(Status.E_MESSAGE, Throws<BridgeException>(() => client.Subscribe(Message.PING)).Code);
            Same(Status.E_REQUEST, Throws<BridgeException>(() => client.Wait(12345, 0)).Code);
            Throws<ArgumentException>(() => client.Call(Message.EXPINIT, "[\"a\0b\"]")); // C would see its end there
            foreach (string none in new[] { string.Join(",", new string[0]), " " }) // would be all of them
            {
                Throws<ArgumentException>(() => client.Call(Message.EXPINIT, null, none));
                Throws<ArgumentException>(() => client.Notify(Message.EXPINIT, null, none));
            }
            Throws<ArgumentException>(() => BridgeClient.ErrorText(1));
            Same(true, BridgeClient.ErrorText(Status.E_PARTIAL).StartsWith("Some services"));
        }
    }

    static void EntriesSayWhyAndWhatServicesDo()
    {
        using (var client = Open())
        {
            Response response = Throws<BridgeException>(() => client.Call(Message.EXPINIT)).Response;
            Same("", response.Services[0].Reason);
            Same(ServiceStatus.INITIALIZED, response.Services[0].Status);
            Same(Reason.Refused, response.Services[1].Reason);
            Same(-1, response.Services[1].Status);
            Same("INITIALIZED", ServiceStatus.Name(response.Services[0].Status));
            Same("99", ServiceStatus.Name(99));
            Same("", ServiceStatus.Name(-1));
            foreach (Message message in new[] { Message.EXPSTART, Message.EXPINFO })
            {
                string one = BridgeClient.Arguments("2026-01-01_1_subject");
                ServiceOutcome said = Throws<BridgeException>(
                    () => client.Call(message, message == Message.EXPSTART ? one : null)).Response.Services[0];
                Same("2026-01-01_1_subject", said.ExpRef);
                Same("cameras: RUNNING", said.ToString());
            }
            Same("", response.Services[0].ExpRef + response.Services[1].ExpRef);
        }
    }

    static void ATimeOutThatIsNoneIsRefused()
    {
        using (var client = Open())
        {
            int before = client.Send(Message.PING);
            Throws<ArgumentOutOfRangeException>(() => client.Call(Message.EXPSTART, timeoutMs: -1));
            Throws<ArgumentOutOfRangeException>(() => client.CallAsync(Message.EXPSTART, timeoutMs: -1));
            foreach (Action wait in new Action[]
            {
                () => client.Wait(1, -1), () => client.WaitAsync(1, -1).Wait(), () => client.NextEvent(-1),
                () => client.NextEventAsync(-1).Wait(), () => new BridgeClient("rig0", "other", -1)
            })
                Same(Status.E_ARGUMENT, Throws<BridgeException>(wait).Code);
            Same(before + 1, client.Send(Message.PING)); // no request was made meanwhile
        }
    }

    static void WarningsAreNotThrown()
    {
        using (var client = Open())
        {
            Same(true, client.HasWorker);
            Response response = client.Call(Message.EXPINIT);
            Same(Status.W_OPTIONAL, response.Code);
            Same(true, response.Error.Contains("lamp"));
            Same(false, response.Services.Single(service => service.Name == "lamp").Ok);
            WorkerState state = client.State;
            Same(true, state.Alive);
            Same(2, state.Services);
            Same(1, state.ServicesUp);
        }
    }

    // -- values

    static void ValuesArrive()
    {
        using (var client = Open())
        {
            client.Call(Message.EXPINIT, BridgeClient.Arguments(new Dictionary<string, object>
            {
                { "cameras:left", "Mäuschen→😀 \"\\/\b\f\n\r\t\u0001\u2028" },
                { "numbers", new object[] { 1, -2L, 1.0, 0.1f, 1e300, ulong.MaxValue, 3.10m, (byte)7, Message.PING } },
                { "words", new List<bool?> { true, false, null } },
                { "empty", new object[] { new int[0], new Dictionary<string, int>(), "" } },
                { "character", 'ä' },
            }));
            client.Call(Message.EXPINIT, BridgeClient.Arguments(null)); // one argument: null
            client.Call(Message.EXPINIT, BridgeClient.Arguments(new List<int> { 1, 2 }));
            client.Call(Message.EXPINIT);
        }
        foreach (object wrong in new object[] { double.NaN, float.PositiveInfinity, DateTime.Now, new object(),
            new Dictionary<int, int> { { 1, 1 } } })
            Throws<ArgumentException>(() => BridgeClient.Arguments(new object[] { wrong }));
        var endless = new List<object>();
        endless.Add(endless);
        Throws<ArgumentException>(() => BridgeClient.Arguments(endless));
        using (var client = Open()) // half a character
            Throws<ArgumentException>(() => client.Call(Message.EXPINIT, BridgeClient.Arguments("\ud83d")));
    }

    static void ValuesComeBack()
    {
        using (var client = Open())
        {
            double before = BridgeClient.ClockNs();
            Response response = client.Call(Message.EXPINIT);
            double after = BridgeClient.ClockNs();
            ServiceOutcome service = response.Services.Single();
            Same("cameras:left", service.Name);
            var stamps = new long[]
            {
                response.Sent, response.Accepted, service.Sent, service.Echoed, service.Answered, response.Finished
            };
            Same(true, before <= stamps[0] && stamps[5] <= after && stamps.SequenceEqual(stamps.OrderBy(x => x)));
            Same(true, Math.Abs((DateTimeOffset.Parse(response.Wall) - DateTimeOffset.Now).TotalSeconds) < 60);
            Same(true, response.CommandId != "" && response.Request > 0);
            var map = (IDictionary<string, object>)service.Data["value"];
            Same("\"\\/\b\f\n\r\t\u0001\u007fMäuschen→😀", map["a:b \"ä"]);
            Same(9007199254740993L, map["exact"]);
            Same(long.MinValue, map["least"]);
            Same(ulong.MaxValue, map["most"]);
            Same(-1.5e-7, map["real"]);
            Same(1.0, map["one"]);
            Same(null, map["none"]);
            Same(true, map["yes"]);
            Same(false, map["no"]);
            var nested = (List<object>)((List<object>)map["nested"])[1];
            Same(2L, ((IDictionary<string, object>)nested[0])["deep"]);
            Same(0, ((List<object>)nested[1]).Count + ((IDictionary<string, object>)nested[2]).Count);
            Same("", map[""]);
        }
    }

    static void BigResponsesArriveWhole()
    {
        string big = string.Concat(Enumerable.Range(0, 3000).Select(i => "ä→" + i + " "));
        string arguments = BridgeClient.Arguments(big, 1);
        using (var client = Open())
            foreach (Response response in new[]
            {
                client.Call(Message.EXPSTART, arguments),
                client.CallAsync(Message.EXPSTART, arguments).Result,
                client.Wait(client.Send(Message.EXPSTART, arguments), 5000),
                client.WaitAsync(client.Send(Message.EXPSTART, arguments), 5000).Result,
            })
            {
                Same(true, response.Json.Length > 1 << 16, "no test of growth");
                foreach (ServiceOutcome service in response.Services)
                    Same(big, ((List<object>)service.Data["value"])[0]);
            }
    }

    // -- events

    static void EventsComeInOrder()
    {
        using (var client = Open())
        {
            Same(null, client.NextEvent(0));
            Same(null, client.NextEventAsync(0).Result);
            client.Call(Message.EXPINIT); // now the service knows the worker's address
            client.Subscribe(Message.EXPINTERRUPT | Message.CLIENT_LOST);
            Say("listening");
            BridgeEvent first = client.NextEvent(5000), second = client.NextEventAsync(5000).Result;
            Same(Message.EXPINTERRUPT, first.Message);
            Same("EXPINTERRUPT", first.Event);
            Same("cameras", first.Service);
            Same("", first.Client);
            Same(first.Sequence + 1, second.Sequence);
            Same(true, first.Time <= second.Time && second.Time <= BridgeClient.ClockNs() && first.Wall != "");
            Same(new string('ä', 5000), second.Data["value"]); // as JSON more than the first buffer holds
            Same("EXPINTERRUPT from cameras", second.ToString());
            using (var source = new CancellationTokenSource())
            {
                Task<BridgeEvent> next = client.NextEventAsync(60000, source.Token);
                source.Cancel();
                Throws<TaskCanceledException>(next.Wait);
            }
            Say("kill the worker");
            Same(Status.E_NO_WORKER, Throws<BridgeException>(() => client.NextEvent(60000)).Code);
        }
    }

    // -- asynchronous calls

    static void CallsKeepTheirOrder()
    {
        using (var client = Open())
        {
            Task<Response>[] calls = Enumerable.Range(0, 20)
                .Select(i => client.CallAsync(Message.EXPINIT, BridgeClient.Arguments(i))).ToArray();
            Task.WaitAll(calls);
            for (int i = 0; i < calls.Length; i++)
                Same((long)i, calls[i].Result.Services[0].Data["value"]);
        }
    }

    static void WaitsHoldNoThreadOfThePool()
    {
        ThreadPool.SetMinThreads(1, 1);
        using (var client = Open())
        using (var source = new CancellationTokenSource())
        {
            Task[] waits = Enumerable.Range(0, 40)
                .Select(i => (Task)client.CallAsync(Message.EXPSTATUS, token: source.Token)).ToArray();
            var clock = Stopwatch.StartNew();
            using (var ran = new ManualResetEvent(false))
            {
                ThreadPool.QueueUserWorkItem(_ => ran.Set());
                Same(true, ran.WaitOne(2000), "the pool is starved");
            }
            Same(false, waits.Any(wait => wait.IsCompleted), "the service was to keep silent");
            source.Cancel();
            Throws<TaskCanceledException>(() => Task.WaitAll(waits));
            Same(true, waits.All(wait => wait.IsCanceled));
            Same(true, clock.ElapsedMilliseconds < 5000, "a cancelled wait goes on");
        }
    }

    static void ATokenCancels()
    {
        using (var client = Open())
        using (var source = new CancellationTokenSource())
        {
            Task<Response> call = client.CallAsync(Message.EXPINIT, null, null, 60000, source.Token);
            Task<Response> wait = client.WaitAsync(client.Send(Message.PING, "[\"surplus\"]"), 5000, source.Token);
            Same(Status.E_ARGS, Throws<BridgeException>(wait.Wait).Code); // done before it
            int kept = client.Send(Message.EXPINIT);
            wait = client.WaitAsync(kept, 60000, source.Token);
            source.Cancel();
            Throws<TaskCanceledException>(call.Wait);
            Throws<TaskCanceledException>(wait.Wait);
            Same(TaskStatus.Canceled, call.Status, "call");
            Same(TaskStatus.Canceled, wait.Status, "wait");
            Same(Status.E_TIMEOUT, Throws<BridgeException>(() => client.Wait(kept, 0)).Code); // it is still open
            client.Cancel(kept);
            int before = client.Send(Message.PING);
            Same(TaskStatus.Canceled, client.CallAsync(Message.PING, token: source.Token).Status); // and not sent
            Same(before + 1, client.Send(Message.PING));
            // Of what a token cancelled no request is left: there is room for 1,024.
            for (int i = 0; i < 1100; i++)
                using (var soon = new CancellationTokenSource())
                {
                    Task<Response> lost = client.CallAsync(Message.EXPSTATUS, token: soon.Token);
                    soon.Cancel();
                    Throws<TaskCanceledException>(lost.Wait);
                }
        }
    }

    static void CancelTellsWhetherItWasSent()
    {
        using (var client = Open())
        {
            int first = client.Send(Message.EXPINIT);
            Say("accepted"); // the test waits until the service has it
            int second = client.Send(Message.EXPINIT);
            Same(true, client.Cancel(second)); // it waits for the service, which is busy
            Same(true, client.Withdraw(client.Send(Message.EXPINIT)));
            Same(false, client.Withdraw(first)); // and it is still open
            Task<Response> wait = client.WaitAsync(first, 60000);
            Same(false, client.Cancel(first));
            int code = Throws<BridgeException>(wait.Wait).Code;
            Same(true, code == Status.E_CANCELLED || code == Status.E_REQUEST); // the latter if it did not wait yet
            Same(Status.E_REQUEST, Throws<BridgeException>(() => client.Cancel(first)).Code);
        }
    }

    static void EndsOfTimeLeaveTheRequest()
    {
        using (var client = Open())
        {
            foreach (Action call in new Action[]
            {
                () => client.Call(Message.EXPINIT, timeoutMs: 300),
                () => client.CallAsync(Message.EXPINIT, timeoutMs: 300).Wait(),
            })
            {
                var pending = Throws<BridgeException>(call); // the service has it and is slow
                Same(Status.E_PENDING, pending.Code);
                var behind = Throws<BridgeException>(call); // behind it; the worker may see first that it is late
                Same(true, behind.Code == Status.E_NOT_SENT || behind.Code == Status.E_EXPIRED, behind.Message);
                Same(0, behind.Request);
                Same(false, client.Withdraw(pending.Request));
                Same(true, client.Wait(pending.Request, 5000).Services[0].Ok);
            }
            int request = client.Send(Message.EXPINIT);
            var wait = Throws<BridgeException>(() => client.Wait(request, 100));
            Same(Status.E_TIMEOUT, wait.Code);
            Same(request, wait.Request);
            Same(true, client.Wait(wait.Request, 5000).Services[0].Ok);
        }
    }

    // -- the worker dies

    static void ACallWhoseWorkerDiesSaysSo()
    {
        using (var client = Open())
        {
            Task<Response> call = client.CallAsync(Message.EXPINIT, timeoutMs: 60000);
            Say("kill the worker");
            var error = Throws<BridgeException>(call.Wait);
            Same(Status.E_PENDING, error.Code);
            Same(true, error.Message.Contains("The worker died with the command. Start it again"), error.Message);
            Same(true, error.Request > 0);
        }
    }

    static void AWorkerThatDiesIsTold()
    {
        using (var client = Open())
        {
            int request = client.Send(Message.EXPINIT);
            Task<Response> wait = client.WaitAsync(request, 60000), call = client.CallAsync(Message.EXPSTATUS);
            Say("kill the worker");
            var error = Throws<BridgeException>(wait.Wait);
            Same(Status.E_NO_WORKER, error.Code);
            Same(request, error.Request);
            error = Throws<BridgeException>(call.Wait); // it came behind the other, and was withdrawn
            Same(Status.E_NO_WORKER, error.Code);
            Same(0, error.Request);
            Same(false, client.State.Alive);
            Same(true, client.HasWorker); // there was one when the last command was sent
            Same(Status.E_NO_WORKER, Throws<BridgeException>(() => client.Call(Message.PING)).Code);
            Same(false, client.HasWorker);
            error = Throws<BridgeException>(() => client.CallAsync(Message.PING).Wait());
            Same(Status.E_NO_WORKER, error.Code);
            Same(0, error.Request);
            using (var other = Open("other"))
                Same(false, other.HasWorker);
            Say("start a new one");
            error = Throws<BridgeException>(() => client.Wait(request, 10000)); // of the first, after all
            Same(Status.E_OUTCOME_UNKNOWN, error.Code);
            Same(request, error.Response.Request);
            client.Notify(Message.EXPEND); // what was withdrawn would come before it
            Same(true, client.HasWorker);
            Say("done");
        }
    }

    // -- the end of a client

    static void DisposeEndsWaits()
    {
        var client = Open();
        Task[] waits =
        {
            client.WaitAsync(client.Send(Message.EXPINIT), 60000), client.NextEventAsync(60000),
            Task.Factory.StartNew(() => client.Call(Message.EXPSTATUS), TaskCreationOptions.LongRunning),
            client.CallAsync(Message.EXPINFO)
        };
        for (int i = 0; i < 50; i++)
            client.Call(Message.PING); // meanwhile most of them have begun to wait; none has to
        client.Dispose();
        foreach (Task wait in waits)
            Throws<ObjectDisposedException>(wait.Wait);
        client.Dispose();
        Throws<ObjectDisposedException>(() => client.Call(Message.PING));
        Throws<ObjectDisposedException>(() => client.CallAsync(Message.PING));
        Throws<ObjectDisposedException>(() => client.NextEvent(0));
        // The same name again takes the place of the older client, which then cannot close the newer one.
        BridgeClient older = Open(), newer = Open();
        Same(Status.E_HANDLE, Throws<BridgeException>(() => older.Call(Message.PING)).Code);
        older.Dispose();
        newer.Call(Message.PING);
        newer.Dispose();
    }

    // More than there are slots (16) and handles (64).
    static void ForgottenClientsLeaveNothing()
    {
        for (int i = 0; i < 100; i++)
        {
            Forget(i);
            GC.Collect();
            GC.WaitForPendingFinalizers();
        }
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    static void Forget(int i)
    {
        var client = new BridgeClient("rig0", "forgotten-" + i, 5000);
        client.Subscribe(Message.EXPINTERRUPT);
        client.Call(Message.PING);
        Same(null, client.NextEventAsync(0).Result);
    }

    static void EndsInTheMiddle()
    {
        BridgeClient client = Open(), other = Open("other");
        client.NextEventAsync(60000);
        client.CallAsync(Message.EXPINIT);
        client.WaitAsync(client.Send(Message.EXPINIT), 60000);
        new Thread(() => other.NextEvent(60000)) { IsBackground = true }.Start();
    }

    // -- threads

    static void ThreadsShareAClient()
    {
        using (var client = Open())
        {
            Thread[] threads = Enumerable.Range(0, 6).Select(i => new Thread(() =>
            {
                for (int j = 0; j < 50; j++)
                {
                    long mine = 1000 * i + j;
                    Response response = client.Call(Message.EXPINIT, BridgeClient.Arguments(mine));
                    Same(mine, response.Services[0].Data["value"]);
                }
            })).ToArray();
            foreach (Thread thread in threads)
                thread.Start();
            foreach (Thread thread in threads)
                thread.Join(); // an exception in one of them ends the program with another exit status
        }
    }

    // -- the library

    static void LibraryLoads()
    {
        Console.WriteLine(BridgeClient.ErrorText(Status.E_PARTIAL));
    }

    static void NamesOfTheLibrary()
    {
        foreach (string system in new[] { "linux", "osx", "win" })
            foreach (int bits in new[] { 32, 64 })
            {
                Console.WriteLine("beside {0} {1} {2}", system, bits, string.Join(" ", Library.Beside(system, bits)));
                Console.WriteLine("package {0} {1} {2}", system, bits, string.Join(" ", Library.InPackage(system, bits)));
            }
    }
}
