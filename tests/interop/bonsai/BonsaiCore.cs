// BonsaiCore.cs: as much of Bonsai.Core 2.6.3 as the operators and the two workflows need, to compile and run them in
// tests. Names, namespaces and signatures are those of Bonsai; what it does beyond is left out.
using System;
using System.Collections.Generic;
using System.ComponentModel;
using System.Linq;
using System.Reactive.Linq;
using System.Xml;
using System.Xml.Serialization;

namespace Bonsai
{
    public enum ElementCategory { Source, Condition, Transform, Sink, Nested, Property, Combinator, Workflow }

    [AttributeUsage(AttributeTargets.Class, AllowMultiple = false)]
    public sealed class WorkflowElementCategoryAttribute : Attribute
    {
        public WorkflowElementCategoryAttribute(ElementCategory category)
        {
            Category = category;
        }

        public ElementCategory Category { get; private set; }
    }

    [AttributeUsage(AttributeTargets.Class)]
    public sealed class CombinatorAttribute : Attribute
    {
        public CombinatorAttribute()
        {
            MethodName = "Process";
        }

        public string MethodName { get; set; }
    }

    [AttributeUsage(AttributeTargets.Class)]
    public sealed class SourceAttribute : Attribute
    {
    }

    [AttributeUsage(AttributeTargets.Property)]
    public sealed class RangeAttribute : Attribute
    {
        public RangeAttribute(int min, int max)
        {
            Minimum = min;
            Maximum = max;
        }

        public decimal Minimum { get; private set; }
        public decimal Maximum { get; private set; }
    }

    [AttributeUsage(AttributeTargets.Assembly, AllowMultiple = true)]
    public sealed class XmlNamespacePrefixAttribute : Attribute
    {
        public XmlNamespacePrefixAttribute(string xmlNamespace, string prefix)
        {
            XmlNamespace = xmlNamespace;
            Prefix = prefix;
        }

        public string XmlNamespace { get; private set; }
        public string Prefix { get; private set; }
    }

    public static class DesignTypes
    {
        public const string NumericUpDownEditor = "Bonsai.Design.NumericUpDownEditor, Bonsai.Design";
        public const string MultilineStringEditor = "System.ComponentModel.Design.MultilineStringEditor, System.Design";
        public const string UITypeEditor = "System.Drawing.Design.UITypeEditor, System.Drawing";
    }

    public interface INamedElement
    {
        string Name { get; }
    }

    [Source]
    [Combinator(MethodName = "Generate")]
    [WorkflowElementCategory(ElementCategory.Source)]
    public abstract class Source<TSource>
    {
        public abstract IObservable<TSource> Generate();
    }

    [Combinator]
    public abstract class Combinator
    {
        public abstract IObservable<TSource> Process<TSource>(IObservable<TSource> source);
    }

    [Combinator]
    public abstract class Combinator<TResult>
    {
        public abstract IObservable<TResult> Process<TSource>(IObservable<TSource> source);
    }

    [Combinator]
    public abstract class BinaryCombinator
    {
        public abstract IObservable<TSource> Process<TSource, TOther>(
            IObservable<TSource> source, IObservable<TOther> other);
    }

    [WorkflowElementCategory(ElementCategory.Sink)]
    public abstract class Sink : Combinator
    {
    }

    public class WorkflowBuilder
    {
        public WorkflowBuilder(Expressions.ExpressionBuilderGraph workflow)
        {
            Workflow = workflow;
        }

        public Expressions.ExpressionBuilderGraph Workflow { get; private set; }
    }
}

namespace Bonsai.Expressions
{
    public abstract class ExpressionBuilder
    {
        public static object GetWorkflowElement(ExpressionBuilder builder)
        {
            return ((CombinatorBuilder)builder).Combinator;
        }
    }

    public class CombinatorBuilder : ExpressionBuilder
    {
        public object Combinator { get; set; }
    }

    public class ExpressionBuilderGraph : List<ExpressionBuilder>
    {
    }

    public static class ExpressionBuilderGraphExtensions
    {
        public static IEnumerable<ExpressionBuilder> Descendants(this ExpressionBuilderGraph source)
        {
            return source;
        }
    }
}

namespace Bonsai.Reactive
{
    public class Timer : Source<long>
    {
        [XmlIgnore]
        public TimeSpan DueTime { get; set; }

        [XmlIgnore]
        public TimeSpan Period { get; set; }

        [XmlElement("DueTime")]
        public string DueTimeXml
        {
            get { return XmlConvert.ToString(DueTime); }
            set { DueTime = XmlConvert.ToTimeSpan(value); }
        }

        [XmlElement("Period")]
        public string PeriodXml
        {
            get { return XmlConvert.ToString(Period); }
            set { Period = XmlConvert.ToTimeSpan(value); }
        }

        public override IObservable<long> Generate()
        {
            return Period > TimeSpan.Zero ? Observable.Timer(DueTime, Period) : Observable.Timer(DueTime);
        }
    }

    public class Take : Combinator
    {
        public int Count { get; set; }

        public override IObservable<TSource> Process<TSource>(IObservable<TSource> source)
        {
            return source.Take(Count);
        }
    }

    public class SubscribeWhen : BinaryCombinator
    {
        public override IObservable<TSource> Process<TSource, TOther>(
            IObservable<TSource> source, IObservable<TOther> other)
        {
            return other.Take(1).SelectMany(_ => source);
        }
    }

    public class Repeat : Combinator
    {
        public override IObservable<TSource> Process<TSource>(IObservable<TSource> source)
        {
            return source.Repeat();
        }
    }

    public class TakeUntil : BinaryCombinator
    {
        public override IObservable<TSource> Process<TSource, TOther>(
            IObservable<TSource> source, IObservable<TOther> other)
        {
            return source.TakeUntil(other);
        }
    }
}
