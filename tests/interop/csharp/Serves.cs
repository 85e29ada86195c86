// Serves.cs: what test_csharp_serving.py asks of the serving side of the C# client. As Checks.cs: the first argument
// names a method here, and Say("...") waits for a line of the test's.
using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Linq;
using System.Reflection;
using System.Threading;
using System.Threading.Tasks;
using IblBridge;

sealed class Serves : Checking
{
    static int Main(string[] arguments)
    {
        return Run(typeof(Serves), arguments);
    }

    static BridgeClient Open()
    {
        return new BridgeClient("rig0", "program", 60000);
    }

    // -- one by one

    static void CommandsAreTakenOneByOne()
    {
        using (var rig = Open())
        {
            Same(Status.E_SERVICE, Throws<BridgeException>(() => rig.NextCommand(0)).Code);
            Same(Status.E_SERVICE, Throws<BridgeException>(() => rig.Serve("ephys")).Code);
            Same(Status.E_MESSAGE, Throws<BridgeException>(() => rig.Serve("cameras", Message.PING)).Code);
            rig.Serve("cameras");
            Same(null, rig.NextCommand(0));
            Same(null, rig.NextCommandAsync(0).Result);
            using (var source = new CancellationTokenSource())
            {
                Task<BridgeCommand> next = rig.NextCommandAsync(60000, source.Token);
                source.Cancel();
                Throws<TaskCanceledException>(next.Wait);
            }
            Console.WriteLine("serving");
            BridgeCommand first;
            using (first = rig.NextCommand(20000))
            {
                Same(Message.EXPINIT, first.Message);
                Same("2026-01-01_1_subject", first.ExpRef);
            }
            Same(true, first.IsAnswered, "left");
            BridgeCommand second = rig.NextCommandAsync(20000).Result;
            Same("2026-01-01_1_subject", second.ExpRef);
            Same("EXPSTART from " + second.Master, second.ToString());
            Same(true, second.Json.Contains("\"EXPSTART\"") && second.TimeoutMs == 8000);
            Same(Status.E_ARGUMENT, Throws<BridgeException>(() => second.Answer(5)).Code);
            Same(false, second.IsAnswered, "an answer that was refused");
            Same(true, second.Answer(ServiceStatus.RUNNING, new List<object> { 1, "ä" }));
            Same(true, second.IsAnswered && !second.IsLate);
            Same(Status.E_COMMAND, Throws<BridgeException>(() => second.Answer()).Code);
            Same(Status.E_COMMAND, Throws<BridgeException>(() => second.Fail("no")).Code);
            second.Dispose();
            BridgeCommand third = rig.NextCommand(20000);
            Same("", third.ExpRef);
            third.Fail("no\0such→file 🐭 \ud83d");
            rig.Serve("cameras", 0);
            foreach (BridgeCommand command in rig.Serve("cameras", 0))
                Same(null, command);
            Same(Status.E_SERVICE, Throws<BridgeException>(() => rig.Tell(Message.EXPINTERRUPT)).Code);
        }
    }

    static void BigCommandsArriveWhole()
    {
        using (var rig = Open())
            foreach (BridgeCommand command in rig.Serve())
            {
                command.Answer(data: command.Args[0]);
                if (command.Message == Message.EXPEND)
                    break;
            }
    }

    // -- interrupts

    static void AnInterruptCancelsWhatCameBefore()
    {
        using (var rig = Open())
        {
            var cancelled = new List<CancellationToken>();
            foreach (BridgeCommand command in rig.Serve())
            {
                Same(false, command.Interrupted.IsCancellationRequested, command.ToString());
                cancelled.Add(command.Interrupted);
                if (command.Message == Message.EXPINIT)
                {
                    Console.WriteLine("busy");
                    Same(true, command.Interrupted.WaitHandle.WaitOne(20000), "the program is busy");
                }
                Console.WriteLine(command.Message);
                command.Answer();
                if (command.Message != Message.EXPCLEANUP)
                    continue;
                string seen = string.Join(" ", cancelled.Select(token => token.IsCancellationRequested ? "yes" : "no"));
                Same("yes yes no no", seen); // EXPSTART, EXPINIT, EXPINTERRUPT, EXPCLEANUP
                break;
            }
        }
    }

    static void ACallbackThatThrowsEndsTheLoop()
    {
        using (var rig = Open())
        {
            AggregateException error = null;
            try
            {
                foreach (BridgeCommand command in rig.Serve())
                {
                    command.Interrupted.Register(() => { throw new InvalidOperationException("the lens is gone"); });
                    command.Answer();
                    Console.WriteLine("answered");
                }
            }
            catch (AggregateException thrown)
            {
                error = thrown;
            }
            Same("the lens is gone", error.GetBaseException().Message);
        }
    }

    // -- too late

    static void WhatWasGivenUpIsNotBegun()
    {
        using (var rig = Open())
        {
            var messages = new List<Message>();
            foreach (BridgeCommand command in rig.Serve())
            {
                messages.Add(command.Message);
                if (command.Message == Message.EXPINIT)
                {
                    Say("busy");
                    Same(false, command.Answer(), "too late");
                    Same(true, command.IsAnswered && command.IsLate);
                    continue;
                }
                Same(true, command.Answer());
                break;
            }
            Same("EXPINIT EXPEND", string.Join(" ", messages));
        }
    }

    // -- handlers

    static void HandlersAreAwaited()
    {
        using (var rig = Open())
        using (var end = new CancellationTokenSource())
        {
            Task serving = rig.ServeAsync("cameras", BridgeClient.Served, async command =>
            {
                await Task.Delay(10, command.Interrupted);
                if (command.Message == Message.EXPSTART)
                    throw new InvalidOperationException("the lens is gone");
                if (command.Message == Message.EXPEND)
                    command.Answer(ServiceStatus.CONNECTED, 5);
                return "not said after an answer";
            }, end.Token);
            Say("serving");
            end.Cancel();
            serving.Wait();
        }
    }

    static void ErrorsAfterTheAnswerAreThrown()
    {
        using (var rig = Open())
        {
            var error = Throws<InvalidOperationException>(() => rig.Serve("cameras", Message.EXPINIT, command =>
            {
                command.Answer();
                throw new InvalidOperationException("the disk is full");
            }));
            Same("the disk is full", error.Message);
            Say("ended");
        }
    }

    // -- the end

    static void DisposeEndsLoops()
    {
        var rig = Open();
        Task loop = Task.Factory.StartNew(() => rig.Serve("cameras", BridgeClient.Served, _ => null));
        Say("serving");
        rig.Dispose();
        loop.Wait();
        Throws<ObjectDisposedException>(() => rig.NextCommand(0));
        Throws<ObjectDisposedException>(() => rig.Serve());

        var other = Open();
        Task<BridgeCommand> wait = Task.Factory.StartNew(() =>
        {
            other.Serve();
            return other.NextCommand(60000);
        });
        Say("waiting");
        other.Dispose();
        Throws<ObjectDisposedException>(wait.Wait);

        var third = Open();
        third.Serve("cameras", BridgeClient.Served, command =>
        {
            third.Dispose(); // the master is told; what the handler returns nobody can say
            return 5;
        });
    }

    // A token, Dispose in another thread, and a body that leaves, while something goes on.
    static void TheEndOfALoopEndsWhatWasBegun()
    {
        Func<BridgeCommand, object> handler = command =>
        {
            Console.WriteLine("busy");
            command.Interrupted.WaitHandle.WaitOne();
            command.Interrupted.ThrowIfCancellationRequested();
            return null;
        };
        using (var rig = Open())
        using (var end = new CancellationTokenSource())
        {
            Task loop = Task.Factory.StartNew(() => rig.Serve("cameras", BridgeClient.Served, handler, end.Token));
            Say("serving");
            end.Cancel();
            loop.Wait();
            BridgeCommand last = null;
            foreach (BridgeCommand command in rig.Serve())
            {
                last = command;
                command.Answer();
                break;
            }
            Same(true, last.Interrupted.IsCancellationRequested);
        }
        var other = Open();
        Task second = Task.Factory.StartNew(() => other.Serve("cameras", BridgeClient.Served, handler));
        Say("serving");
        other.Dispose();
        second.Wait();
    }

    static void TheEndOfALoopIsTheEndOfServing()
    {
        using (var rig = Open())
        {
            foreach (BridgeCommand command in rig.Serve())
                break; // without an answer
            Say("ended");
            BridgeCommands earlier = rig.Serve();
            using (earlier.GetEnumerator())
                rig.Serve(); // in its place: the end of the earlier one is not that of this one
            BridgeCommand next = rig.NextCommand(20000);
            Same(true, next.Answer());
        }
    }

    // -- the worker

    static void TheNextWorkerDelivers()
    {
        using (var rig = Open())
            foreach (BridgeCommand command in rig.Serve())
            {
                Say("kill the worker");
                Same(true, command.Answer());
                Same(false, rig.HasWorker);
                Say("start a new one");
                break;
            }
    }

    // -- await foreach: its compilers look for these by name

    static void AwaitForeachFindsWhatItNeeds()
    {
        MethodInfo begin = typeof(BridgeCommands).GetMethod("GetAsyncEnumerator", Type.EmptyTypes);
        Type loop = begin.ReturnType;
        Same(typeof(Task<bool>), loop.GetMethod("MoveNextAsync", Type.EmptyTypes).ReturnType);
        Same(typeof(Task), loop.GetMethod("DisposeAsync", Type.EmptyTypes).ReturnType);
        Same(typeof(BridgeCommand), loop.GetProperty("Current").PropertyType);
        using (var rig = Open())
        {
            BridgeCommands.Enumerator commands = rig.Serve().GetAsyncEnumerator(); // as it is compiled
            Task<bool> next = commands.MoveNextAsync();
            Same(false, next.IsCompleted);
            Console.WriteLine("serving");
            Same(true, next.Result);
            commands.Current.Answer();
            commands.DisposeAsync().Wait();
            Same(false, commands.MoveNextAsync().Result);
        }
    }
}
