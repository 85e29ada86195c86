// Bridge.cs: the bridges of this process by name, each shared by all operators that say its name.
//
// - A bridge exists from the first operator that names it to the last that lets it go, and is attached to its segment
//   once a CreateBridge opens it. Who names it earlier waits: the order of the nodes in a workflow does not matter.
// - To open it never blocks: a CreateBridge looks again and again, and who waits for the bridge does so as long.
// - Nothing is kept from one run of a workflow to the next.
using IblBridge;
using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;

namespace Bonsai.IblBridge
{
    /// <summary>One named bridge. Each <see cref="Rent"/> is followed by one <see cref="Return"/>.</summary>
    internal sealed class Bridge
    {
        static int OpenMs = 10000; // for a CreateBridge to come: a workflow has started by then
        const string DefaultClient = "bonsai";
        const int MostClients = 15; // on one segment
        const int LookMs = 200; // in one wait for a CreateBridge

        static readonly Dictionary<string, Bridge> bridges = new Dictionary<string, Bridge>();

        readonly string name;
        // Asynchronously: those who wait are not to run inside of Open.
        readonly TaskCompletionSource<BridgeClient> opened =
            new TaskCompletionSource<BridgeClient>(TaskCreationOptions.RunContinuationsAsynchronously);
        readonly CancellationTokenSource gone = new CancellationTokenSource();
        string segment, client; // of the CreateBridge; null: there is none
        string called; // on the segment
        BridgeClient attached; // and not opened yet: no worker lives
        int users, openers;

        internal readonly Listeners Listeners;
        internal readonly Commands Commands;
        internal volatile bool Failed; // the last that was heard of an operator is an error that nobody caught

        Bridge(string name)
        {
            this.name = name;
            Listeners = new Listeners(this);
            Commands = new Commands(this);
        }

        internal static Bridge Rent(string name)
        {
            if (string.IsNullOrWhiteSpace(name))
                throw new InvalidOperationException("The name of the bridge is missing: take that of a CreateBridge.");
            lock (bridges)
            {
                Bridge bridge;
                if (!bridges.TryGetValue(name, out bridge))
                    bridges.Add(name, bridge = new Bridge(name));
                bridge.users++;
                return bridge;
            }
        }

        internal void Return()
        {
            lock (bridges)
            {
                if (--users > 0)
                    return;
                bridges.Remove(name);
                if (opened.Task.IsCompleted)
                    End(opened.Task.Result);
                else
                    gone.Cancel();
            }
        }

        // What an error has ended is lost: the worker looks after the services (on_client_lost).
        void End(BridgeClient client)
        {
            if (Failed)
                client.Abandon();
            else
                client.Dispose();
        }

        /// <summary>The bridge of a client; null: it was let go.</summary>
        internal static Bridge Of(BridgeClient client)
        {
            lock (bridges)
                return bridges.Values.FirstOrDefault(one => one.IsOpen && one.opened.Task.Result == client);
        }

        /// <summary>Lets the commands fail that the workflow has in hand: an error ends it.</summary>
        internal static void FailCommands(Exception error)
        {
            Bridge[] all;
            lock (bridges)
                all = bridges.Values.ToArray();
            foreach (Bridge bridge in all)
            {
                bridge.Failed = true;
                bridge.Commands.Fail(error);
            }
        }

        /// <summary>Says for a CreateBridge what it opens; <see cref="LeaveOpening"/> follows.</summary>
        internal void BeginOpening(string segment, string client)
        {
            lock (bridges)
            {
                if (this.segment == null)
                    Claim(segment, client);
                else if (segment != this.segment || client != this.client)
                    throw new InvalidOperationException(string.Format(
                        "The bridge \"{0}\" is open already, on segment \"{1}\" as client \"{2}\": give this one " +
                        "another Name.", name, this.segment, called ?? DefaultClient));
                openers++;
            }
        }

        internal void LeaveOpening()
        {
            lock (bridges)
                if (--openers == 0 && !opened.Task.IsCompleted)
                {
                    Detach();
                    segment = client = called = null;
                }
        }

        // To attach twice under one client name closes the first: two bridges must not do that to each other.
        void Claim(string segment, string client)
        {
            bool named = !string.IsNullOrWhiteSpace(client);
            Bridge other = named ? Called(segment, client) : null;
            if (other != null)
                throw new InvalidOperationException(string.Format(
                    "The bridge \"{0}\" is client \"{1}\" of segment \"{2}\" already: share its Name, or give " +
                    "this one another Client.", other.name, client, segment));
            this.segment = segment;
            this.client = client;
            called = named ? client : null;
        }

        static Bridge Called(string segment, string client)
        {
            return bridges.Values.FirstOrDefault(one => one.segment == segment && one.called == client);
        }

        BridgeClient Attach()
        {
            return called != null ? new BridgeClient(segment, called, 0) : AttachUnnamed();
        }

        // Under the first name that neither another bridge nor another process has.
        BridgeClient AttachUnnamed()
        {
            for (int number = 1; ; number++)
                try
                {
                    string free = number == 1 ? DefaultClient : DefaultClient + "-" + number;
                    if (Called(segment, free) != null)
                        continue;
                    var client = new BridgeClient(segment, free, 0);
                    called = free;
                    return client;
                }
                catch (BridgeException error)
                {
                    if (error.Code != Status.E_NAME_TAKEN || number == MostClients)
                        throw;
                }
        }

        /// <summary>The client, once a worker lives or the time is up; null: look again. Takes no time.</summary>
        internal BridgeClient TryOpen(bool timeIsUp)
        {
            lock (bridges)
            {
                if (opened.Task.IsCompleted)
                    return opened.Task.Result;
                try
                {
                    attached = attached ?? Attach();
                    if (!timeIsUp && !attached.State.Alive)
                        return null;
                }
                catch (BridgeException error)
                {
                    Detach();
                    if (timeIsUp || !Passes(error.Code))
                        throw;
                    return null;
                }
                opened.SetResult(attached);
                return attached;
            }
        }

        void Detach()
        {
            if (attached != null)
                attached.Dispose();
            attached = null;
        }

        // What iblb_open itself waits for: the segment is made or replaced, a place in it given back, a file let go.
        static bool Passes(int code)
        {
            return code == Status.E_NO_SEGMENT || code == Status.E_STALE || code == Status.E_NO_SLOT ||
                code == Status.E_SYSTEM;
        }

        internal bool IsOpen { get { return opened.Task.IsCompleted; } }

        /// <summary>The client, as soon as a CreateBridge has opened it.</summary>
        internal Task<BridgeClient> Client()
        {
            return opened.Task.IsCompleted ? opened.Task : Opened();
        }

        async Task<BridgeClient> Opened()
        {
            var alone = Stopwatch.StartNew(); // without a CreateBridge
            while (await Task.WhenAny(opened.Task, Task.Delay(LookMs, gone.Token)).ConfigureAwait(false) != opened.Task)
            {
                gone.Token.ThrowIfCancellationRequested();
                lock (bridges)
                    if (openers > 0)
                        alone.Restart();
                if (alone.ElapsedMilliseconds >= OpenMs)
                    throw new InvalidOperationException(string.Format(
                        "No bridge \"{0}\" is open: put a CreateBridge node of this Name into the workflow.", name));
            }
            return opened.Task.Result;
        }
    }
}
