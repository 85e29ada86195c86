// Session.cs: the commands of one operator, from its subscription to its end.
//
// - A command is written into the segment when its element arrives, in the order of the elements and without waiting
//   for the answers of those before it: an EXPINTERRUPT overtakes what is still waited for, and no source is held up.
// - If there is no room for a command, because elements come faster than the services answer, its operator says what
//   becomes of it: an error, a wait in the source's thread for room, or nothing, and it is counted.
// - Answers are waited for one at a time, oldest first, in a thread that is not the source's.
// - The end of a session cancels what it has not got an answer for: what no worker has taken is never sent. First of
//   all no wait begins any more: mono aborts a process in which a thread starts while it ends.
using IblBridge;
using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Reactive.Linq;
using System.Threading;
using System.Threading.Tasks;

namespace Bonsai.IblBridge
{
    /// <summary>What is told to the services, as it stood when the element arrived.</summary>
    internal sealed class Command
    {
        readonly Stopwatch age = Stopwatch.StartNew();

        readonly CommandNode node;

        internal readonly Message Message;
        internal readonly string Services, Arguments;
        internal readonly int TimeoutMs;

        internal Command(CommandNode node, object element)
        {
            this.node = node;
            Message = node.Message;
            Services = string.IsNullOrWhiteSpace(node.Services) ? null : node.Services;
            Arguments = AsJson(string.IsNullOrWhiteSpace(node.Arguments) ? element as string : node.Arguments);
            TimeoutMs = node.TimeoutMs;
        }

        internal int LeftMs { get { return (int)Math.Max(0, TimeoutMs - age.ElapsedMilliseconds); } }

        internal int TtlMs { get { return Math.Max(1, LeftMs); } } // 0 would be the default

        /// <summary>Whether to look for room again; if not, it was left out.</summary>
        /// <exception cref="BridgeException">It fails, with the same code in Bonsai's words.</exception>
        internal bool WaitsForRoom(int code)
        {
            if (node.WhenFull == FullMode.DropNewest)
            {
                node.CountDropped();
                return false;
            }
            if (node.WhenFull == FullMode.Wait && LeftMs > 0)
                return true;
            throw new BridgeException(code, string.Format(
                "{0}: elements come faster than the services answer, and there is no room for more commands{1}. Put " +
                "a Sample or Throttle node before this one, or set WhenFull to {2}DropNewest.", Message,
                node.WhenFull == FullMode.Wait ? " within " + TimeoutMs + " ms" : "",
                node.WhenFull == FullMode.Wait ? "" : "Wait or "));
        }

        // A subject's name is not JSON, and nobody wants to write quotation marks into a property.
        static string AsJson(string text)
        {
            bool json = string.IsNullOrWhiteSpace(text) || "[{\"".IndexOf(text.TrimStart()[0]) >= 0;
            return json ? text : BridgeClient.Arguments(text);
        }
    }

    /// <summary>The commands of one operator.</summary>
    internal sealed class Session : IDisposable
    {
        const int RoomMs = 20; // in one wait for room

        readonly HashSet<int> open = new HashSet<int>(); // and its lock: requests without an answer yet
        readonly CancellationTokenSource end = new CancellationTokenSource();
        readonly Task<BridgeClient> attached;
        Task sent, answered; // the command before; they may have failed
        bool ended;

        internal Session(string name)
        {
            Bridge = Bridge.Rent(name);
            sent = answered = attached = Bridge.Client();
        }

        internal Bridge Bridge { get; private set; }

        /// <summary>The sequence of an operator. If it ends by an error the workflow does, unless it catches that and
        /// sends another command.</summary>
        internal static IObservable<T> Of<T>(string name, Func<Session, IObservable<T>> sequence)
        {
            return Observable.Using(
                () => new Session(name),
                session => sequence(session).Do(_ => { }, error => session.Fail()));
        }

        // Before anybody hears of it, since a program may end then: no wait is to begin any more.
        void Fail()
        {
            Bridge.Failed = true;
            end.Cancel();
        }

        /// <summary>Sends a command now, or once the bridge is open, and waits for its answer: null if it was
        /// left out.</summary>
        internal Task<Response> Ask(Command command, ErrorMode onError)
        {
            Task<int> request = Next(command, client => Send(client, command));
            Task<Response> answer = answered.ContinueWith(_ => Answer(command, request, onError),
                end.Token, TaskContinuationOptions.LongRunning, TaskScheduler.Default);
            answered = answer;
            return answer;
        }

        /// <summary>Sends a command now, or once the bridge is open, and wants no answer: gives null.</summary>
        internal Task<Response> Tell(Command command)
        {
            return Next(command, client =>
            {
                client.Notify(command.Message, command.Arguments, command.Services, command.TtlMs);
                return (Response)null;
            });
        }

        /// <summary>Tells masters something now, or once the bridge is open.</summary>
        internal Task<bool> Say(Message message, string json)
        {
            Task<bool> next = sent.ContinueWith(_ =>
            {
                attached.GetAwaiter().GetResult().TellJson(message, json);
                Bridge.Failed = false;
                return true;
            }, end.Token, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
            sent = next;
            return next;
        }

        // One after the other, the first one once the bridge is open: before this returns if it is.
        Task<T> Next<T>(Command command, Func<BridgeClient, T> send)
        {
            Task<T> next = sent.ContinueWith(_ =>
            {
                BridgeClient client = attached.GetAwaiter().GetResult();
                lock (open)
                    return WithRoom(command, () =>
                    {
                        if (ended)
                            throw new OperationCanceledException();
                        Bridge.Failed = false;
                        return send(client);
                    });
            }, CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
            sent = next;
            return next;
        }

        // With the lock, which is let go while there is no room. What is left out gives 0 or null.
        T WithRoom<T>(Command command, Func<T> send)
        {
            while (true)
            {
                try
                {
                    return send();
                }
                catch (BridgeException error)
                {
                    if (error.Code != Status.E_FULL && error.Code != Status.E_TOO_MANY)
                        throw;
                    if (!command.WaitsForRoom(error.Code))
                        return default(T);
                }
                Monitor.Wait(open, RoomMs); // for an answer of this operator, or another one of the bridge
            }
        }

        // With the lock.
        int Send(BridgeClient client, Command command)
        {
            int request = client.Send(command.Message, command.Arguments, command.Services, command.TtlMs);
            open.Add(request);
            return request;
        }

        Response Answer(Command command, Task<int> request, ErrorMode onError)
        {
            try
            {
                int number = request.GetAwaiter().GetResult();
                return number == 0 ? null : Wait(command, number);
            }
            catch (BridgeException error)
            {
                if (onError == ErrorMode.Throw)
                    throw;
                return error.Response ?? Failure(command, error);
            }
        }

        Response Wait(Command command, int request)
        {
            try
            {
                return attached.Result.Wait(request, command.LeftMs);
            }
            catch (BridgeException error)
            {
                if (error.Request == 0)
                    throw;
                throw GivenUp(command, error.Code, request);
            }
            finally
            {
                lock (open)
                {
                    open.Remove(request);
                    Monitor.PulseAll(open);
                }
            }
        }

        // No answer will be waited for again, so the request is closed, and what is known of it said.
        BridgeException GivenUp(Command command, int code, int request)
        {
            bool nothingSent = attached.Result.Cancel(request), late = code == Status.E_TIMEOUT;
            string reason = late
                ? string.Format("{0}: no response within {1} ms; ", command.Message, command.TimeoutMs)
                : string.Format("{0}: no worker serves the segment; ", command.Message);
            if (nothingSent)
                return new BridgeException(late ? Status.E_NOT_SENT : code, reason + "nothing was sent.");
            return new BridgeException(late ? Status.E_PENDING : Status.E_OUTCOME_UNKNOWN,
                reason + "services may have it, so ask EXPSTATUS before you repeat it.");
        }

        static Response Failure(Command command, BridgeException error)
        {
            return new Response(Json.Write(new Dictionary<string, object>
            {
                { "request", 0 }, { "command_id", "" }, { "message", command.Message.ToString() },
                { "code", error.Code }, { "error", error.Sentence }, { "services", new object[0] },
                { "sent", 0 }, { "accepted", 0 }, { "finished", 0 }, { "wall", "" },
            }));
        }

        /// <summary>Cancels what is under way, which also ends the wait for it, and lets the bridge go.</summary>
        public void Dispose()
        {
            end.Cancel();
            lock (open)
            {
                ended = true;
                foreach (int request in open)
                    Withdraw(request);
                open.Clear();
                Monitor.PulseAll(open);
            }
            Bridge.Return();
        }

        void Withdraw(int request)
        {
            try
            {
                attached.Result.Cancel(request);
            }
            catch (BridgeException) // its answer has come meanwhile, or the segment is gone
            {
            }
        }
    }
}
