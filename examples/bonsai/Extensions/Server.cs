// Server.cs: one subscription of a Serve node. Its elements come in a thread of its own, one after the other: so a node
// that takes its time with one holds up no EXPINTERRUPT for another node.
using IblBridge;
using System;
using System.Collections.Generic;
using System.Threading;

namespace Bonsai.IblBridge
{
    /// <summary>One subscription of a Serve node.</summary>
    internal sealed class Server
    {
        internal readonly string Service;
        internal readonly Message Messages;

        readonly IObserver<BridgeCommand> observer;
        readonly Queue<BridgeCommand> waiting = new Queue<BridgeCommand>(); // and the lock of the rest
        Exception failure;
        bool isBusy, hasEnded;

        internal Server(string service, Message messages, IObserver<BridgeCommand> observer)
        {
            Service = service;
            Messages = messages;
            this.observer = observer;
        }

        internal bool IsIdle
        {
            get
            {
                lock (waiting)
                    return !isBusy && waiting.Count == 0;
            }
        }

        internal void Start()
        {
            new Thread(Run) { IsBackground = true, Name = "Serve" }.Start();
        }

        /// <summary>False: it has ended meanwhile.</summary>
        internal bool Give(BridgeCommand command)
        {
            lock (waiting)
            {
                if (hasEnded || failure != null)
                    return false;
                waiting.Enqueue(command);
                Monitor.PulseAll(waiting);
                return true;
            }
        }

        internal void Fail(Exception error)
        {
            lock (waiting)
            {
                failure = error;
                Monitor.PulseAll(waiting);
            }
        }

        // Without a wait: it may be the thread itself that ends the sequence.
        internal void End()
        {
            lock (waiting)
            {
                hasEnded = true;
                Monitor.PulseAll(waiting);
            }
        }

        void Run()
        {
            BridgeCommand command;
            while ((command = Next()) != null)
                try
                {
                    observer.OnNext(command);
                }
                catch (Exception error) // of a node that should have passed it on
                {
                    command.FailBy(error);
                    Fail(error);
                }
            if (failure != null && !hasEnded)
                observer.OnError(failure);
            while (waiting.Count > 0)
                waiting.Dequeue().Leave("The node of the workflow that was to have it has ended.");
        }

        BridgeCommand Next()
        {
            lock (waiting)
            {
                isBusy = false;
                while (waiting.Count == 0 && failure == null && !hasEnded)
                    Monitor.Wait(waiting);
                isBusy = failure == null && !hasEnded;
                return isBusy ? waiting.Dequeue() : null;
            }
        }
    }
}
