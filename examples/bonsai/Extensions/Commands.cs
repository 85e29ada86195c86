// Commands.cs: what masters ask of a bridge, and the Serve nodes that it goes to. A program has one listener and is
// given one command at a time, so one thread takes them for all nodes, as long as there are some.
//
// - Each node gets its elements in a thread of its own. While one is busy with an element, only an EXPINTERRUPT is
//   taken, for whichever other node wants it: what its master has given up meanwhile never begins.
// - What is served is what the nodes want, or wanted since there are some: a node may go and come back (Repeat). A
//   command waits a little for its node, then it fails.
// - What nobody answers the worker tells its master: when its time is up, and at once if the workflow ends.
using IblBridge;
using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;

namespace Bonsai.IblBridge
{
    /// <summary>Hands what masters ask to the nodes that serve it.</summary>
    internal sealed class Commands
    {
        const int LookMs = 100; // in one wait for a command
        const int BusyMs = 20; // between two looks, while a node is busy
        const int SettleMs = 250; // for the other nodes of a workflow that starts
        const int GapMs = 500; // for a node to come back

        readonly object turn = new object(); // to serve
        readonly Bridge bridge;
        readonly List<Server> servers = new List<Server>(); // and the lock of all here
        readonly List<BridgeCommand> taken = new List<BridgeCommand>(); // and perhaps not answered
        readonly List<Waiting> waiting = new List<Waiting>(); // without a node; the pump's own
        string service; // of all nodes
        Message wanted, served; // 0: nothing yet
        bool pumping;

        internal Commands(Bridge bridge)
        {
            this.bridge = bridge;
        }

        /// <summary>Hands what is asked of a listener to an observer until the action returned is called.</summary>
        internal Action Add(string service, Message messages, IObserver<BridgeCommand> observer)
        {
            var server = new Server(service, messages, observer);
            bool late;
            lock (servers)
            {
                if (servers.Any(other => other.Service != service))
                    throw new InvalidOperationException(string.Format(
                        "The bridge serves \"{0}\" already: give this Serve node the same Service, or another bridge.",
                        servers[0].Service));
                bool another = this.service != service;
                this.service = service;
                wanted = another ? messages : wanted | messages;
                servers.Add(server);
                if (!pumping)
                    Task.Factory.StartNew(Pump, TaskCreationOptions.LongRunning);
                pumping = true;
                late = served != 0 && (another || wanted != served);
            }
            server.Start();
            try
            {
                if (late) // at once, for its first command may follow an answer that is given now
                    ServeWanted(bridge.Client().Result);
            }
            catch
            {
                Remove(server);
                throw;
            }
            return () => Remove(server);
        }

        void Remove(Server server)
        {
            lock (servers)
                servers.Remove(server);
            server.End();
        }

        /// <summary>Lets all fail that was taken and not answered: an error ends the workflow.</summary>
        internal void Fail(Exception error)
        {
            BridgeCommand[] open;
            lock (servers)
            {
                open = taken.Where(command => !command.IsAnswered).ToArray();
                taken.Clear();
            }
            foreach (BridgeCommand command in open)
                command.FailBy(error);
        }

        void Pump()
        {
            try
            {
                BridgeClient client = bridge.Client().GetAwaiter().GetResult();
                Thread.Sleep(SettleMs);
                for (ServeWanted(client); Goes(client); Place())
                    Take(waiting.Count == 0 && IsIdle ? client.NextCommand(LookMs) : Interrupt(client));
            }
            catch (Exception error) // whatever it is ends the sequences of the nodes
            {
                Server[] all;
                lock (servers)
                {
                    pumping = false;
                    wanted = served = 0;
                    all = servers.ToArray();
                    servers.Clear();
                }
                foreach (Server server in all)
                    server.Fail(error);
            }
        }

        // Until there are no nodes any more; who comes then begins anew.
        bool Goes(BridgeClient client)
        {
            lock (turn)
                lock (servers)
                {
                    if (servers.Count == 0 && waiting.Count == 0)
                    {
                        pumping = false;
                        wanted = served = 0;
                        client.Serve(null, 0); // which takes no time
                    }
                    return pumping;
                }
        }

        // May take a while if the worker has just started.
        void ServeWanted(BridgeClient client)
        {
            lock (turn)
                for (bool again = true; again;)
                {
                    string name;
                    Message messages;
                    lock (servers)
                    {
                        name = service;
                        messages = wanted;
                    }
                    client.Serve(name, messages);
                    lock (servers)
                    {
                        served = messages;
                        again = wanted != messages || service != name;
                    }
                }
        }

        bool IsIdle
        {
            get
            {
                lock (servers)
                    return servers.All(server => server.IsIdle);
            }
        }

        BridgeCommand Interrupt(BridgeClient client)
        {
            Message next = client.PeekCommand(waiting.Count == 0 ? LookMs : BusyMs);
            if (next == Message.EXPINTERRUPT)
                return client.NextCommand(0);
            if (next != 0)
                Thread.Sleep(BusyMs);
            return null;
        }

        void Take(BridgeCommand command)
        {
            if (command == null)
                return;
            lock (servers)
            {
                taken.RemoveAll(one => one.IsAnswered);
                taken.Add(command);
            }
            if (command.Message == Message.EXPINTERRUPT)
            {
                waiting.ForEach(one => one.Command.Leave("An EXPINTERRUPT overtook it."));
                waiting.Clear();
            }
            waiting.Add(new Waiting(command));
        }

        void Place()
        {
            foreach (Waiting one in waiting.ToArray())
            {
                bool isGiven = one.Command.IsAnswered || Give(one.Command); // answered: the workflow has failed
                if (!isGiven && one.Age.ElapsedMilliseconds < GapMs)
                    continue;
                waiting.Remove(one);
                if (!isGiven)
                    one.Command.Leave("No node of the workflow waits for " + one.Command.Message + " now.");
            }
        }

        // To all nodes that want it.
        bool Give(BridgeCommand command)
        {
            Server[] all;
            lock (servers)
                all = servers.Where(server => (server.Messages & command.Message) != 0).ToArray();
            return all.Count(server => server.Give(command)) > 0;
        }

        sealed class Waiting
        {
            internal readonly BridgeCommand Command;
            internal readonly Stopwatch Age = Stopwatch.StartNew();

            internal Waiting(BridgeCommand command)
            {
                Command = command;
            }
        }
    }
}
