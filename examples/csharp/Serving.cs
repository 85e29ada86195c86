// Serving.cs: your program is a service that masters, such as iblrig on another PC, command. For programs that serve,
// beside BridgeClient.cs and Native.cs.
//
//     using (var rig = new BridgeClient("rig0", "cameras"))
//         foreach (BridgeCommand command in rig.Serve("cameras"))
//             command.Answer(); // await foreach works, too
//
// - One command at a time, each answered once, from whatever thread. What leaves the body of the loop unanswered fails:
//   no master is left waiting. What a handler throws, in Serve or Attempt, its master is told.
// - An EXPINTERRUPT comes before all else, also while the body is busy: that cancels the token Interrupted of every
//   command that was taken before. Nothing else is taken while the body is busy, so what its master has given up
//   meanwhile is not begun.
// - A worker that dies or restarts is waited for. A token, or Dispose of the client in another thread, ends the loop, and
//   cancels that token as well.
using System;
using System.Collections;
using System.Collections.Generic;
using System.Collections.ObjectModel;
using System.Linq;
using System.Runtime.ExceptionServices;
using System.Text;
using System.Threading;
using System.Threading.Tasks;

namespace IblBridge
{
    public sealed partial class BridgeClient
    {
        /// <summary>What a camera or recorder wants to be asked. The worker answers the rest, EXPSTATUS and EXPINFO
        /// with what the program said last.</summary>
        public const Message Served =
            Message.EXPINIT | Message.EXPSTART | Message.EXPEND | Message.EXPCLEANUP | Message.EXPINTERRUPT;

        readonly object commandGate = new object();
        CancellationTokenSource interruption = new CancellationTokenSource(); // of what was taken since the last
        long interruptedAt;
        BridgeCommands served;

        /// <summary>From now on this client gets what masters ask of a listener of the worker, in place of what it
        /// served before.</summary>
        /// <param name="service">The listener's name, as in <c>iblbridge serve --listen ... --as cameras</c>; null: the
        /// only one there is.</param>
        /// <param name="messages">What the program wants to be asked, joined with <c>|</c>; 0: it serves no
        /// more.</param>
        /// <param name="token">Ends the loop over the commands, within 100 ms.</param>
        /// <returns>The commands as they come, for <c>foreach</c> or <c>await foreach</c>; its end is the end of
        /// serving. Or take them one by one with <see cref="NextCommand(int)"/>.</returns>
        /// <exception cref="BridgeException">E_SERVICE: there is no such listener; E_NAME_TAKEN: another program serves
        /// it; E_MESSAGE: no master can ask that.</exception>
        public BridgeCommands Serve(
            string service = null, Message messages = Served,
            CancellationToken token = default(CancellationToken))
        {
            byte[] name = Utf8.Bytes(service);
            Note(Check(Ask(h => native.Serve(h, name, (int)messages))));
            return served = new BridgeCommands(this, messages != 0, token);
        }

        /// <summary>Serves until the token is cancelled, or the client is disposed in another thread: answers each
        /// command by a handler, as <see cref="BridgeCommand.Attempt"/> does.</summary>
        /// <param name="service">As for the other Serve.</param>
        /// <param name="messages">What the program wants to be asked.</param>
        /// <param name="handler">Does what is asked, and returns the data of the answer.</param>
        /// <param name="token">Ends it, within 100 ms.</param>
        public void Serve(
            string service, Message messages, Func<BridgeCommand, object> handler,
            CancellationToken token = default(CancellationToken))
        {
            foreach (BridgeCommand command in Serve(service, messages, token))
                command.Attempt(handler);
        }

        /// <summary>The same for a handler that is awaited: <c>await rig.ServeAsync("cameras",
        /// BridgeClient.Served, async command => ...)</c>.</summary>
        public async Task ServeAsync(
            string service, Message messages, Func<BridgeCommand, Task<object>> handler,
            CancellationToken token = default(CancellationToken))
        {
            using (BridgeCommands.Enumerator commands = Serve(service, messages, token).GetEnumerator())
                while (await commands.MoveNextAsync().ConfigureAwait(false))
                    await commands.Current.AttemptAsync(handler).ConfigureAwait(false);
        }

        /// <summary>Waits for the next command, an EXPINTERRUPT before all others.</summary>
        /// <param name="timeoutMs">ms.</param>
        /// <returns>The command, to be answered, or put into a using block; null if nothing was asked, or no worker
        /// lives: <see cref="HasWorker"/>.</returns>
        /// <exception cref="BridgeException">E_SERVICE: the client serves nothing; E_TOO_MANY: 8 commands were taken
        /// and not answered.</exception>
        public BridgeCommand NextCommand(int timeoutMs)
        {
            return NextCommand(timeoutMs, CancellationToken.None);
        }

        /// <summary>As <see cref="NextCommand(int)"/>, in a thread of its own.</summary>
        /// <param name="timeoutMs">ms.</param>
        /// <param name="token">Ends the wait within 100 ms; no command is lost.</param>
        public Task<BridgeCommand> NextCommandAsync(
            int timeoutMs, CancellationToken token = default(CancellationToken))
        {
            return InBackground(() => NextCommand(timeoutMs, token), token);
        }

        /// <summary>Says something without having been asked; every master that commanded lately hears it.</summary>
        /// <param name="message">EXPINTERRUPT: what the program does has ended, a camera died. EXPSTATUS: the status
        /// that it is in from now on. EXPINFO: what the worker answers to EXPINFO from now on.</param>
        /// <param name="data">As in <see cref="BridgeCommand.Answer"/>; for EXPSTATUS such as
        /// <see cref="ServiceStatus.RUNNING"/>.</param>
        /// <exception cref="BridgeException">E_SERVICE: the client serves nothing; E_MESSAGE: it is none of these
        /// three.</exception>
        public void Tell(Message message, object data = null)
        {
            TellJson(message, data == null ? null : Json.Write(data));
        }

        internal void TellJson(Message message, string data)
        {
            byte[] json = Utf8.Bytes(data);
            Note(Check(Ask(h => native.Tell(h, (int)message, json))));
        }

        internal bool IsClosed { get { return handle.IsClosed; } }

        internal BridgeCommand NextCommand(int timeoutMs, CancellationToken token)
        {
            int number = 0;
            string json = "";
            int code = Look(timeoutMs, token, milliseconds =>
            {
                int came = CommandOnce(milliseconds, out number, out json);
                hasWorker = came != Status.E_NO_WORKER;
                return hasWorker ? came : Status.E_TIMEOUT; // the next worker may come in time
            });
            if (code == Status.E_TIMEOUT)
                return null;
            Check(code);
            var command = new BridgeCommand(this, number, json);
            try
            {
                command.Interrupted = Overtakes(command);
            }
            catch (AggregateException error) // of a callback of the program's
            {
                command.FailBy(error);
                throw;
            }
            return command;
        }

        // Two threads may take an EXPINTERRUPT and what came before it: the time decides, not who comes here first.
        CancellationToken Overtakes(BridgeCommand command)
        {
            CancellationTokenSource overtaken = null;
            CancellationToken own;
            lock (commandGate)
            {
                if (command.Message == Message.EXPINTERRUPT)
                {
                    overtaken = interruption;
                    interruption = new CancellationTokenSource();
                    interruptedAt = command.Time;
                }
                own = command.Time < interruptedAt ? new CancellationToken(true) : interruption.Token;
            }
            if (overtaken != null)
                overtaken.Cancel();
            return own;
        }

        internal bool IsInterrupted(BridgeCommand command)
        {
            lock (commandGate)
                return command.Time < interruptedAt;
        }

        // Whatever was begun is to end, for nobody serves any more.
        internal void EndCommands()
        {
            CancellationTokenSource ended;
            lock (commandGate)
            {
                ended = interruption;
                interruption = new CancellationTokenSource();
            }
            ended.Cancel();
        }

        // What would be taken next, and is left there; 0: nothing.
        internal Message PeekCommand(int timeoutMs)
        {
            int number, message = 0, needed;
            int code = Ask(h => native.NextCommand(h, timeoutMs, out number, out message, null, 0, out needed));
            if (code == Status.E_BUFFER)
                return (Message)message;
            if (code != Status.E_TIMEOUT && code != Status.E_NO_WORKER)
                Check(code);
            return 0;
        }

        int CommandOnce(int timeoutMs, out int number, out string json)
        {
            int code, taken = 0, message, needed = FirstCapacity;
            byte[] buffer;
            do
            {
                buffer = new byte[needed];
                code = Ask(h =>
                    native.NextCommand(h, timeoutMs, out taken, out message, buffer, buffer.Length, out needed));
            }
            while (code == Status.E_BUFFER);
            json = Utf8.Text(buffer);
            number = taken;
            return code;
        }

        bool Settle(Func<int, int> function)
        {
            int code = Ask(function);
            if (code == Status.E_LATE)
                return false;
            Note(Check(code));
            return true;
        }

        internal bool Answer(int number, int status, string data)
        {
            byte[] json = Utf8.Bytes(data);
            return Settle(h => native.Answer(h, number, status, json));
        }

        internal bool Fail(int number, string sentence)
        {
            // Whatever it is made of: a sentence is better than none.
            byte[] text = new UTF8Encoding(false).GetBytes((sentence ?? "").Replace('\0', ' ') + '\0');
            return Settle(h => native.Fail(h, number, text));
        }

        internal void StopServing(BridgeCommands commands)
        {
            if (commands == served && !IsClosed)
                native.Serve(handle.Number, null, 0);
            GC.KeepAlive(handle);
        }
    }

    /// <summary>Something that a master asks of this program. Stamps are ns of
    /// <see cref="BridgeClient.ClockNs"/>.</summary>
    public sealed class BridgeCommand : IDisposable
    {
        readonly BridgeClient client;
        volatile bool answered, inTime;

        internal BridgeClient Client { get { return client; } }

        internal BridgeCommand(BridgeClient client, int number, string json)
        {
            this.client = client;
            Number = number;
            Json = json;
            IDictionary<string, object> map = IblBridge.Json.Read(json);
            Service = map.Get<string>("service");
            Master = map.Get<string>("master");
            Message message;
            Message = Enum.TryParse(map.Get<string>("message"), out message) ? message : 0;
            Args = map.Get<List<object>>("args").AsReadOnly();
            bool names = Message == Message.EXPINIT || Message == Message.EXPSTART;
            ExpRef = names ? Reference(Args.FirstOrDefault()) : "";
            Time = map.Get<long>("time");
            Wall = map.Get<string>("wall");
            TimeoutMs = (int)map.Get<long>("timeout_ms");
        }

        /// <summary>Its number, unique among what this client has not answered.</summary>
        public int Number { get; private set; }
        /// <summary>The listener's name.</summary>
        public string Service { get; private set; }
        /// <summary>Who asks: "192.168.0.3:55123".</summary>
        public string Master { get; private set; }
        /// <summary>What to do.</summary>
        public Message Message { get; private set; }
        /// <summary>The arguments; values as in <see cref="ServiceOutcome.Data"/>.</summary>
        public ReadOnlyCollection<object> Args { get; private set; }
        /// <summary>The experiment that its arguments name, as text, as those of EXPINIT and EXPSTART may; else
        /// "".</summary>
        public string ExpRef { get; private set; }
        /// <summary>When it reached the worker.</summary>
        public long Time { get; private set; }
        /// <summary>When, ISO 8601 with offset.</summary>
        public string Wall { get; private set; }
        /// <summary>After so many ms from <see cref="Time"/> the master is told that it failed.</summary>
        public int TimeoutMs { get; private set; }
        /// <summary>All of it as it came.</summary>
        public string Json { get; private set; }
        /// <summary>Cancelled by the next EXPINTERRUPT, and at the end of the loop, also after the answer: whatever
        /// this command has begun is to end. Callbacks run in the thread that takes commands.</summary>
        public CancellationToken Interrupted { get; internal set; }
        /// <summary>Whether it was answered, failed, or was too late for that.</summary>
        public bool IsAnswered { get { return answered; } }
        /// <summary>Whether that came too late: the master was told already that it failed.</summary>
        public bool IsLate { get { return answered && !inTime; } }
        /// <summary>What <see cref="Attempt"/> let it fail with; null if it did not.</summary>
        public Exception Error { get; private set; }

        /// <summary>Says that it was done.</summary>
        /// <param name="status">What the program does now, see <see cref="ServiceStatus"/>; -1: what is usual after
        /// this message, such as RUNNING after EXPSTART.</param>
        /// <param name="data">What the master gets with it: a dictionary with string keys becomes part of the reply;
        /// any other value that <see cref="BridgeClient.Arguments"/> takes stands there as "value".</param>
        /// <returns>False if that came too late: the master was told already that it failed. Do not go on with
        /// it.</returns>
        /// <exception cref="BridgeException">E_COMMAND: it was answered already; E_TOO_LARGE and others: it may be
        /// answered again.</exception>
        public bool Answer(int status = -1, object data = null)
        {
            return AnswerJson(status, data == null ? null : IblBridge.Json.Write(data));
        }

        internal bool AnswerJson(int status, string data)
        {
            inTime = client.Answer(Number, status, data);
            answered = true;
            return inTime;
        }

        /// <summary>Says that it was not done: the master gets an error.</summary>
        /// <param name="sentence">For people: why, and what to do.</param>
        /// <returns>As <see cref="Answer"/>.</returns>
        /// <exception cref="BridgeException">E_COMMAND: it was answered already.</exception>
        public bool Fail(string sentence)
        {
            inTime = client.Fail(Number, sentence);
            answered = true;
            return inTime;
        }

        /// <summary>Calls a handler, and answers with what it returns, if it has not answered by itself. What it throws
        /// before it has answered is what the master is told, and then stands in <see cref="Error"/>; what it throws
        /// later is thrown here.</summary>
        /// <param name="handler">Does what is asked, and returns the data of the answer; null: none.</param>
        /// <returns>As <see cref="Answer"/>; <see cref="Error"/> says whether it failed.</returns>
        public bool Attempt(Func<BridgeCommand, object> handler)
        {
            try
            {
                return End(handler(this));
            }
            catch (Exception error)
            {
                if (!FailBy(error))
                    throw;
                return inTime;
            }
        }

        /// <summary>As <see cref="Attempt"/>, for a handler that is awaited.</summary>
        public async Task<bool> AttemptAsync(Func<BridgeCommand, Task<object>> handler)
        {
            try
            {
                return End(await handler(this).ConfigureAwait(false));
            }
            catch (Exception error)
            {
                if (!FailBy(error))
                    throw;
                return inTime;
            }
        }

        /// <summary>Lets it fail if it was not answered. Never throws.</summary>
        public void Dispose()
        {
            Leave("The program left " + Message + " without an answer.");
        }

        static string Reference(object argument)
        {
            var map = argument as IDictionary<string, object>;
            object named = null;
            if (map != null)
                map.TryGetValue("exp_ref", out named);
            return (map == null ? argument : named) as string ?? "";
        }

        string Overtaken
        {
            get
            {
                return client.IsInterrupted(this) ? "An EXPINTERRUPT overtook this " + Message + "."
                    : "The program stopped serving before it had done this " + Message + ".";
            }
        }

        bool End(object data)
        {
            if (!answered && Interrupted.IsCancellationRequested)
                throw new OperationCanceledException(Interrupted);
            return answered ? inTime : Answer(-1, data);
        }

        // Whether that says it all: false if the master has an answer, and would never hear of the error.
        internal bool FailBy(Exception error)
        {
            var several = error as AggregateException;
            Error = several == null ? error : several.GetBaseException();
            bool overtaken = Error is OperationCanceledException && Interrupted.IsCancellationRequested;
            if (client.IsClosed)
                return overtaken || Error is ObjectDisposedException;
            if (!overtaken)
                return Leave(Error.GetType().Name + ": " + Error.Message);
            Error = new OperationCanceledException(Overtaken, Error, Interrupted);
            return Leave(Overtaken);
        }

        internal bool Leave(string sentence)
        {
            if (answered || client.IsClosed) // who closes leaves nothing unanswered
                return false;
            try
            {
                Fail(sentence);
                return true;
            }
            catch (BridgeException) // the worker tells the master when its time is up
            {
            }
            catch (ObjectDisposedException)
            {
            }
            return false;
        }

        /// <summary>Such as: EXPSTART from 192.168.0.3:55123.</summary>
        public override string ToString()
        {
            return Message + " from " + Master;
        }
    }

    /// <summary>What masters ask, as it comes: for <c>foreach</c>, and for <c>await foreach</c> (C# 8), which needs no
    /// interface. Each loop has a thread of its own that takes commands.</summary>
    public sealed class BridgeCommands : IEnumerable<BridgeCommand>
    {
        readonly BridgeClient client;
        readonly bool any;
        readonly CancellationToken token;

        internal BridgeCommands(BridgeClient client, bool any, CancellationToken token)
        {
            this.client = client;
            this.any = any;
            this.token = token;
        }

        /// <summary>Begins to take commands.</summary>
        public Enumerator GetEnumerator()
        {
            return new Enumerator(this);
        }

        /// <summary>Begins to take commands.</summary>
        public Enumerator GetAsyncEnumerator()
        {
            return new Enumerator(this);
        }

        IEnumerator<BridgeCommand> IEnumerable<BridgeCommand>.GetEnumerator()
        {
            return GetEnumerator();
        }

        IEnumerator IEnumerable.GetEnumerator()
        {
            return GetEnumerator();
        }

        /// <summary>One loop.</summary>
        public sealed class Enumerator : IEnumerator<BridgeCommand>
        {
            const int BusyMs = 20; // between two looks for an EXPINTERRUPT, while something else waits

            readonly object gate = new object();
            readonly BridgeCommands commands;
            readonly BridgeClient client;
            readonly CancellationTokenSource end;
            readonly Queue<BridgeCommand> taken = new Queue<BridgeCommand>();
            bool wanted, ended;
            Exception error;

            internal Enumerator(BridgeCommands commands)
            {
                this.commands = commands;
                client = commands.client;
                end = CancellationTokenSource.CreateLinkedTokenSource(commands.token);
                ended = !commands.any;
                if (!ended)
                    new Thread(Run) { IsBackground = true, Name = "commands of iblbridge" }.Start();
            }

            /// <summary>The command that the body of the loop is given.</summary>
            public BridgeCommand Current { get; private set; }

            object IEnumerator.Current { get { return Current; } }

            /// <summary>Lets the last command fail if it was not answered, and waits for the next.</summary>
            /// <returns>False: a token was cancelled, or the client disposed.</returns>
            /// <exception cref="BridgeException">As <see cref="BridgeClient.NextCommand(int)"/>.</exception>
            public bool MoveNext()
            {
                Leave();
                lock (gate)
                {
                    wanted = true;
                    Monitor.PulseAll(gate);
                    while (taken.Count == 0 && !ended)
                        Monitor.Wait(gate);
                    wanted = false;
                    if (!ended)
                    {
                        Current = taken.Dequeue();
                        return true;
                    }
                }
                if (error != null)
                    ExceptionDispatchInfo.Capture(error).Throw();
                return false;
            }

            /// <summary>As <see cref="MoveNext"/>, in a thread of its own.</summary>
            public Task<bool> MoveNextAsync()
            {
                return BridgeClient.InBackground(() => MoveNext(), CancellationToken.None);
            }

            /// <summary>Serves no more; lets the last command fail if it was not answered.</summary>
            public void Dispose()
            {
                Leave();
                end.Cancel();
                lock (gate)
                {
                    Monitor.PulseAll(gate);
                    while (!ended)
                        Monitor.Wait(gate);
                }
                client.StopServing(commands);
            }

            /// <summary>As <see cref="Dispose"/>, in a thread of its own.</summary>
            public Task DisposeAsync()
            {
                return BridgeClient.InBackground(() => { Dispose(); return true; }, CancellationToken.None);
            }

            /// <summary>Not supported.</summary>
            public void Reset()
            {
                throw new NotSupportedException();
            }

            void Leave()
            {
                BridgeCommand last = Current;
                Current = null;
                if (last != null)
                    last.Dispose();
            }

            void Run()
            {
                try
                {
                    while (!end.IsCancellationRequested)
                        TakeOrWatch();
                }
                catch (Exception thrown)
                {
                    error = client.IsClosed ? null : thrown;
                }
                try
                {
                    client.EndCommands();
                }
                catch (AggregateException thrown) // of a callback of the program's
                {
                    error = error ?? thrown;
                }
                lock (gate)
                {
                    Drop("The program stopped serving before it came to this.");
                    ended = true;
                    Monitor.PulseAll(gate);
                }
            }

            void TakeOrWatch()
            {
                bool take;
                lock (gate)
                    take = wanted && taken.Count == 0;
                if (take)
                {
                    Put(client.NextCommand(BridgeClient.LookMs, CancellationToken.None));
                    return;
                }
                Message waits = client.PeekCommand(BridgeClient.LookMs);
                if (waits == Message.EXPINTERRUPT)
                    Put(client.NextCommand(0, CancellationToken.None));
                else if (waits != 0)
                    lock (gate)
                        if (!wanted && !end.IsCancellationRequested)
                            Monitor.Wait(gate, BusyMs);
            }

            void Put(BridgeCommand command)
            {
                if (command == null)
                    return;
                lock (gate)
                {
                    if (command.Message == Message.EXPINTERRUPT)
                        Drop("An EXPINTERRUPT overtook it.");
                    taken.Enqueue(command);
                    Monitor.PulseAll(gate);
                }
            }

            void Drop(string sentence)
            {
                while (taken.Count > 0)
                    taken.Dequeue().Leave(sentence);
            }
        }
    }
}
