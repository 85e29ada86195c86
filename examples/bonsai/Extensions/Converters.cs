// Converters.cs: what the property grid offers, and what a property refuses.
using Bonsai.Expressions;
using IblBridge;
using System;
using System.Collections.Generic;
using System.ComponentModel;
using System.Globalization;
using System.Linq;
using System.Text.RegularExpressions;

namespace Bonsai.IblBridge
{
    /// <summary>Offers the names of the CreateBridge nodes of the workflow.</summary>
    internal sealed class BridgeNameConverter : StringConverter
    {
        internal const string DefaultName = "rig";

        public override bool GetStandardValuesSupported(ITypeDescriptorContext context)
        {
            return true;
        }

        public override StandardValuesCollection GetStandardValues(ITypeDescriptorContext context)
        {
            var workflow = context == null ? null : (WorkflowBuilder)context.GetService(typeof(WorkflowBuilder));
            if (workflow == null)
                return base.GetStandardValues(context);
            return new StandardValuesCollection(workflow.Workflow.Descendants()
                .Select(node => ExpressionBuilder.GetWorkflowElement(node)).OfType<CreateBridge>()
                .Select(bridge => bridge.Name).Where(name => !string.IsNullOrEmpty(name)).Distinct().ToList());
        }
    }

    /// <summary>Offers what can be sent.</summary>
    internal class CommandConverter : EnumConverter
    {
        public CommandConverter(Type type) : base(type)
        {
        }

        protected virtual bool Offers(Message message)
        {
            return Check.IsCommand(message);
        }

        public override StandardValuesCollection GetStandardValues(ITypeDescriptorContext context)
        {
            return new StandardValuesCollection(Enum.GetValues(typeof(Message)).Cast<Message>().Where(Offers).ToList());
        }
    }

    /// <summary>Several commands, separated by commas, or none.</summary>
    internal sealed class CommandsConverter : CommandConverter
    {
        public CommandsConverter(Type type) : base(type)
        {
        }

        /// <summary>The commands in the order of an experiment, which is that of their numbers.</summary>
        internal static IEnumerable<Message> Split(Message messages)
        {
            return Enum.GetValues(typeof(Message)).Cast<Message>().Where(message => (messages & message) != 0);
        }

        public override object ConvertFrom(ITypeDescriptorContext context, CultureInfo culture, object value)
        {
            return "".Equals(value) ? (Message)0 : base.ConvertFrom(context, culture, value);
        }

        public override object ConvertTo(ITypeDescriptorContext context, CultureInfo culture, object value, Type type)
        {
            bool none = type == typeof(string) && ((Message)0).Equals(value);
            return none ? "" : base.ConvertTo(context, culture, value, type);
        }
    }

    /// <summary>Offers what can be subscribed to.</summary>
    internal sealed class EventsConverter : CommandConverter
    {
        public EventsConverter(Type type) : base(type)
        {
        }

        protected override bool Offers(Message message)
        {
            return Check.IsEvent(message);
        }
    }

    /// <summary>Offers what masters can ask.</summary>
    internal sealed class ServedConverter : CommandConverter
    {
        public ServedConverter(Type type) : base(type)
        {
        }

        protected override bool Offers(Message message)
        {
            return Check.IsAsked(message);
        }
    }

    /// <summary>Offers what a service says by itself.</summary>
    internal sealed class ToldConverter : CommandConverter
    {
        public ToldConverter(Type type) : base(type)
        {
        }

        protected override bool Offers(Message message)
        {
            return Check.IsTold(message);
        }
    }

    /// <summary>What properties refuse.</summary>
    internal static class Check
    {
        const Message OnlyEvents =
            Message.SERVICE_UP | Message.SERVICE_DOWN | Message.CLIENT_LOST | Message.WORKER_RESTARTED |
            Message.EXPERIMENT_LOST | Message.SERVICES_CHANGED;
        const Message OnlyCommands = Message.PING | Message.SERVICES;

        internal static bool IsCommand(Message message)
        {
            return (message & OnlyEvents) == 0;
        }

        internal static bool IsEvent(Message message)
        {
            return (message & OnlyCommands) == 0;
        }

        internal static bool IsAsked(Message message)
        {
            return (message & (OnlyEvents | OnlyCommands)) == 0;
        }

        internal static bool IsTold(Message message)
        {
            return message == Message.EXPINTERRUPT || message == Message.EXPSTATUS || message == Message.EXPINFO;
        }

        internal static Message Command(Message message)
        {
            if (!Enum.IsDefined(typeof(Message), message) || !IsCommand(message))
                throw new ArgumentException(message + " cannot be sent; one command can.");
            return message;
        }

        internal static Message Commands(Message messages)
        {
            if (!IsCommand(messages))
                throw new ArgumentException(messages + " cannot be sent: it holds an event.");
            return messages;
        }

        internal static Message Events(Message messages)
        {
            if (messages == 0 || !IsEvent(messages))
                throw new ArgumentException(messages + " is no choice of events.");
            return messages;
        }

        internal static Message Served(Message messages)
        {
            if (messages == 0 || !IsAsked(messages))
                throw new ArgumentException(messages + " is no choice of what masters ask.");
            return messages;
        }

        internal static Message Told(Message message)
        {
            if (!IsTold(message))
                throw new ArgumentException(message + " is not told: EXPINTERRUPT, EXPSTATUS or EXPINFO is.");
            return message;
        }

        // What a property says: JSON, or one text, which nobody wants to write quotation marks around; null: nothing.
        internal static string Json(string text)
        {
            if (string.IsNullOrWhiteSpace(text))
                return null;
            bool json = Regex.IsMatch(text, @"^\s*([\[{""]|(-?[0-9.]+([eE][-+]?[0-9]+)?|true|false|null)\s*$)");
            return json ? text : global::IblBridge.Json.Write(text);
        }

        internal static int Time(int milliseconds)
        {
            if (milliseconds < 0)
                throw new ArgumentOutOfRangeException("value", "A time is 0 ms or more.");
            return milliseconds;
        }
    }
}
