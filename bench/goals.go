package main

import (
	"math"
	"slices"
)

// goal is a target figure of the project.
type goal struct {
	id, title string
	checks    []check
	later     string // why it is not measured
}

// check is one part of a goal.
type check struct {
	level  level
	what   string
	unit   string
	limit  float64
	least  bool // the limit is a minimum, not a maximum
	figure func(*runner) figure
}

type level string

const (
	must    level = "must"
	stretch level = "stretch"
	inform  level = "" // no goal: shown for information
)

// figure is the measured values, by round.
type figure struct {
	rounds []float64
	noisy  bool
}

// of is a metric of a case.
func of(experiment, name, metric string) func(*runner) figure {
	return func(r *runner) figure {
		c := r.find(experiment).find(name)
		if c == nil || c.Missing == "" && len(c.Rounds[metric]) == 0 {
			r.unknown = append(r.unknown, experiment+": "+name+": "+metric)
			return figure{}
		}
		return figure{c.Rounds[metric], c.Noisy || c.Starved}
	}
}

// perMillion scales a metric of an experiment to a million users.
func perMillion(experiment, name, metric string) func(*runner) figure {
	return func(r *runner) figure {
		f := of(experiment, name, metric)(r)
		return combined(func(v []float64) float64 { return v[0] * 1e6 / float64(r.find(experiment).Size) }, f)
	}
}

// combined computes one figure from others, round by round.
func combined(f func(values []float64) float64, figures ...figure) figure {
	out := figure{}
	for round := 0; ; round++ {
		var values []float64
		for _, g := range figures {
			if round >= len(g.rounds) {
				return out
			}
			values = append(values, g.rounds[round])
			out.noisy = out.noisy || g.noisy
		}
		out.rounds = append(out.rounds, f(values))
	}
}

func combine(f func(values []float64) float64, figures ...func(*runner) figure) func(*runner) figure {
	return func(r *runner) figure {
		list := make([]figure, len(figures))
		for i, g := range figures {
			list[i] = g(r)
		}
		return combined(f, list...)
	}
}

// ratio is a divided by b.
func ratio(a, b func(*runner) figure) func(*runner) figure {
	return combine(func(v []float64) float64 { return v[0] / v[1] }, a, b)
}

func largest(figures ...func(*runner) figure) func(*runner) figure {
	return combine(slices.Max, figures...)
}

// priceOf is the cost of a deadline. It is at least a nanosecond, the precision
// of the measurement.
func priceOf(name string) func(*runner) figure {
	return combine(func(v []float64) float64 { return max(1, v[0]) }, of("paced", name, price))
}

// together is the case with a batch interval in the policy, as a host that
// expects storms would set it.
const together = "ours, changes of 50 ms together"

// goals are all goals, with those that are not measured yet.
var goals = []goal{
	{id: "G1", title: "heartbeat by handle", checks: []check{
		{must, "hot", "ns", 10, false, of("handle/hot", "ours, 1g", wall)},
		{must, "large", "ns", 14, false, of("handle/large", "ours, 1g", wall)},
		{must, "hot, against F1", "x", 2, false, ratio(of("handle/hot", "ours, 1g", wall), of("handle/hot", "F1 store, 1g", wall))},
		{must, "large, against F1", "x", 2, false, ratio(of("handle/large", "ours, 1g", wall), of("handle/large", "F1 store, 1g", wall))},
		{must, "large, two goroutines against one", "x", 1.8, true, ratio(of("handle/large", "ours, 1g", wall), of("handle/large", "ours, 2g", wall))},
		{must, "allocations", "", 0, false, whole(of("handle/large", "ours, 1g", allocs))},
		{stretch, "hot, against F1", "x", 1.2, false, ratio(of("handle/hot", "ours, 1g", wall), of("handle/hot", "F1 store, 1g", wall))},
		{stretch, "large, against F1", "x", 1.2, false, ratio(of("handle/large", "ours, 1g", wall), of("handle/large", "F1 store, 1g", wall))},
		{stretch, "the same handle again", "ns", 1.5, false, of("handle/hot", "ours, same handle again", wall)},
		{inform, "large, handles cold, against F1 so", "x", 0, false, ratio(of("handle/large", "ours, handles cold", wall), of("handle/large", "F1 store, handles cold", wall))},
	}},
	{id: "G2", title: "against Centrifuge's refresh", checks: []check{
		{must, "large, two goroutines, 1 channel: less by", "x", 25, true, ratio(of("centrifuge/large", "Centrifuge, one channel, 2g", wall), of("centrifuge/large", "ours, 2g", wall))},
		{must, "20 channels: less by", "x", 60, true, ratio(of("centrifuge/channels", "Centrifuge, every channel", wall), of("centrifuge/channels", "ours", wall))},
		{stretch, "large, two goroutines, 1 channel: less by", "x", 60, true, ratio(of("centrifuge/large", "Centrifuge, one channel, 2g", wall), of("centrifuge/large", "ours, 2g", wall))},
		{stretch, "20 channels: less by", "x", 140, true, ratio(of("centrifuge/channels", "Centrifuge, every channel", wall), of("centrifuge/channels", "ours", wall))},
		{inform, "hot, one goroutine, 1 channel: less by", "x", 0, false, ratio(of("centrifuge/hot", "Centrifuge, one channel, 1g", wall), of("centrifuge/hot", "ours, 1g", wall))},
	}},
	{id: "G3", title: "heartbeat by user id", checks: []check{
		{must, "hot, against F2", "x", 1, false, ratio(of("id/hot", "ours, 1g", wall), of("id/hot", "F2 sharded maps, 1g", wall))},
		{must, "large, against F2", "x", 1, false, ratio(of("id/large", "ours, 1g", wall), of("id/large", "F2 sharded maps, 1g", wall))},
		{must, "large, 2g, below Centrifuge by", "x", 2, true, ratio(of("id/large", "Centrifuge, one channel, 2g", wall), of("id/large", "ours, 2g", wall))},
		{stretch, "hot, against F3", "x", 1.2, false, ratio(of("id/hot", "ours, 1g", wall), of("id/hot", "F3 own table, 1g", wall))},
		{stretch, "large, against F3", "x", 1.2, false, ratio(of("id/large", "ours, 1g", wall), of("id/large", "F3 own table, 1g", wall))},
		{stretch, "large, 2g, below Centrifuge by", "x", 4, true, ratio(of("id/large", "Centrifuge, one channel, 2g", wall), of("id/large", "ours, 2g", wall))},
		{stretch, "large, 1g, below Centrifuge by", "x", 1.7, true, ratio(of("id/large", "Centrifuge, one channel, 1g", wall), of("id/large", "ours, 1g", wall))},
		{stretch, "large, 2g, below AfterFunc by", "x", 14, true, ratio(of("id/large", "mutex + map + AfterFunc, 2g", wall), of("id/large", "ours, 2g", wall))},
	}},
	{id: "G4", title: "the price of a deadline", checks: []check{
		{must, "a heartbeat, over a bare store", "cpu ns", 60, false, priceOf("ours")},
		{must, "below AfterFunc's by", "x", 8, true, ratio(priceOf("time.AfterFunc"), priceOf("ours"))},
		{stretch, "a heartbeat, over a bare store", "cpu ns", 15, false, priceOf("ours")},
		{stretch, "below AfterFunc's by", "x", 35, true, ratio(priceOf("time.AfterFunc"), priceOf("ours"))},
	}},
	{id: "G5", title: "sweep, nobody expires", checks: []check{
		{must, "of one core, for a million users", "%", 0.5, false, perMillion("sweep", "ours", share)},
		{must, "longest hold of a lock, by tick and wait", "ms", 1, false, of("sweep", "ours", hold)},
		{stretch, "of one core, for a million users", "%", 0.25, false, perMillion("sweep", "ours", share)},
		{stretch, "longest hold of a lock, by tick and wait", "ms", 0.1, false, of("sweep", "ours", hold)},
		{stretch, "lateness", "ms", ms(sweepTick), false, of("sweep", "ours", lateness)},
	}},
	{id: "G6", title: "all expire at once", checks: []check{
		{must, "heartbeats of others, p99", "us", 1_000, false, of("expire", "ours", p99)},
		{must, "heartbeats of others, max", "us", 10_000, false, of("expire", "ours", most)},
		{must, "processors, for a million users", "s", 1, false, combine(func(v []float64) float64 { return v[0] / 1000 }, of("expire", "ours", spent))},
		{must, "peak of memory above before", "%", 10, false, of("expire", "ours", growth)},
		{stretch, "p99, against 100 us or 3 times idle", "x", 1, false, combine(func(v []float64) float64 { return v[0] / max(100, 3*v[1]) }, of("expire", "ours", p99), of("expire", "idle", p99))},
		{stretch, "heartbeats of others, max", "us", 2_000, false, of("expire", "ours", most)},
		{stretch, "max, below Centrifuge by", "x", 15, true, ratio(of("expire", "Centrifuge, removals by 64 goroutines", most), of("expire", "ours", most))},
		{stretch, "max, below AfterFunc by", "x", 1_500, true, ratio(of("expire", "mutex + map + AfterFunc", most), of("expire", "ours", most))},
	}},
	{id: "G7", title: "memory of a user", checks: []check{
		{must, "heap", "bytes", 128, false, of("memory", "ours, rooms of 50", bytesUser)},
		{must, "objects", "", 0.05, false, of("memory", "ours, rooms of 50", objectsUser)},
		{must, "full GC, for a million", "cpu ms", 20, false, of("memory", "ours, rooms of 50", gcCPU)},
		{stretch, "heap", "bytes", 92, false, of("memory", "ours, rooms of 50", bytesUser)},
		{stretch, "full GC, for a million", "cpu ms", 10, false, of("memory", "ours, rooms of 50", gcCPU)},
		{stretch, "below Centrifuge, rooms of 50, by", "x", 2.2, true, ratio(of("memory", "Centrifuge, rooms of 50", bytesUser), of("memory", "ours, rooms of 50", bytesUser))},
		{stretch, "below AfterFunc by", "x", 4.3, true, ratio(of("memory", "map + struct + AfterFunc", bytesUser), of("memory", "ours, rooms of 50", bytesUser))},
		{stretch, "below Redis SET EX by", "x", 1.7, true, ratio(of("memory", "Redis SET EX", bytesUser), of("memory", "ours, rooms of 50", bytesUser))},
	}},
	{id: "G8", title: "connect and disconnect", checks: []check{
		{must, "connect", "cpu ns", 600, false, of("churn", "ours, rooms of 50", connecting)},
		{must, "disconnect", "cpu ns", 500, false, of("churn", "ours, rooms of 50", disconnecting)},
		{stretch, "connect", "cpu ns", 250, false, of("churn", "ours, rooms of 50", connecting)},
		{stretch, "disconnect", "cpu ns", 250, false, of("churn", "ours, rooms of 50", disconnecting)},
		{stretch, "connect, below Centrifuge by", "x", 2.2, true, ratio(of("churn", "Centrifuge, rooms of 50", connecting), of("churn", "ours, rooms of 50", connecting))},
		{stretch, "disconnect, below Centrifuge by", "x", 2.5, true, ratio(of("churn", "Centrifuge, rooms of 50", disconnecting), of("churn", "ours, rooms of 50", disconnecting))},
	}},
	{id: "G9", title: "list of 10,000 members", checks: []check{
		{must, "list", "us", 100, false, inMicros(of("list/10000", "ours", wall))},
		{must, "allocations", "", 0, false, whole(of("list/10000", "ours", allocs))},
		{must, "below Centrifuge by", "x", 5, true, ratio(of("list/10000", "Centrifuge", wall), of("list/10000", "ours", wall))},
		{must, "below Redis by", "x", 8, true, ratio(of("list/10000", "Redis ZRANGE BYSCORE", wall), of("list/10000", "ours", wall))},
		{stretch, "list", "us", 25, false, inMicros(of("list/10000", "ours", wall))},
		{stretch, "below Centrifuge by", "x", 20, true, ratio(of("list/10000", "Centrifuge", wall), of("list/10000", "ours", wall))},
		{stretch, "below Redis by", "x", 35, true, ratio(of("list/10000", "Redis ZRANGE BYSCORE", wall), of("list/10000", "ours", wall))},
		{stretch, "snapshot encoded before", "ns", 100, false, of("list/10000", "ours, snapshot encoded before", wall)},
	}},
	{id: "G10", title: "disconnect to diff, fan-out", checks: []check{
		{must, "disconnect to diff, p50", "us", 5, false, inMicros(of("departure", "ours", p50))},
		{must, "publish, a watcher", "ns", 60, false, of("publish", "ours", wall)},
		{stretch, "disconnect to diff, p50", "us", 1, false, inMicros(of("departure", "ours", p50))},
		{stretch, "publish, a watcher", "ns", 15, false, of("publish", "ours", wall)},
		{stretch, "publish and wake, a watcher", "ns", 260, false, of("wake", "ours", wall)},
	}},
	{id: "G11", title: "WebSocket fan-out", checks: []check{
		{must, "processors, against write(2)", "x", 1.1, false, of("ws-bcast", "ours", againstWrite)},
		{stretch, "processors, against write(2)", "x", 1.03, false, of("ws-bcast", "ours", againstWrite)},
		{inform, "Centrifuge, against write(2)", "x", 0, false, of("ws-bcast", "Centrifuge, a publication", againstWrite)},
		{inform, "last arrival, against write(2)", "x", 0, false, ratio(of("ws-bcast", "ours", lastArrival), of("ws-bcast", "ours", lastWrite))},
	}},
	{id: "G12", title: "join and leave storms", checks: []check{
		{must, "one channel, joins a second, above Centrifuge by", "x", 5, true, ratio(of("ws-one", together, connectRate), of("ws-one", "Centrifuge", connectRate))},
		{must, "half of rooms leaves, processors, against Centrifuge", "x", 0.6, false, ratio(of("ws-rooms", together, leaveCPU), of("ws-rooms", "Centrifuge", leaveCPU))},
		{stretch, "one channel, joins a second, above Centrifuge by", "x", 10, true, ratio(of("ws-one", together, connectRate), of("ws-one", "Centrifuge", connectRate))},
		{stretch, "one channel, processors a join, below Centrifuge by", "x", 18, true, ratio(of("ws-one", "Centrifuge", connectCPU), of("ws-one", together, connectCPU))},
		{stretch, "half of rooms leaves, processors, against Centrifuge", "x", 0.4, false, ratio(of("ws-rooms", together, leaveCPU), of("ws-rooms", "Centrifuge", leaveCPU))},
		{stretch, "half of rooms leaves, all told, against Centrifuge", "x", 0.45, false, ratio(of("ws-rooms", together, leaveAll), of("ws-rooms", "Centrifuge", leaveAll))},
		{stretch, "one joins, the last is told, p50, against Centrifuge", "x", 0.65, false, ratio(of("ws-rooms", "ours", eventP50), of("ws-rooms", "Centrifuge", eventP50))},
		{inform, "one channel, joins a second, above Centrifuge asked for the list by", "x", 0, true, ratio(of("ws-one", together, connectRate), of("ws-one", "Centrifuge, asked for the list", connectRate))},
	}},
	{id: "G13", title: "bytes of an idle WebSocket", checks: []check{
		{must, "resident", "bytes", 5_000, false, of("ws-mem", "ours", clientRSS)},
		{must, "below Centrifuge by", "x", 5.5, true, ratio(of("ws-mem", "Centrifuge", clientRSS), of("ws-mem", "ours", clientRSS))},
		{must, "below Centrifuge with tuned buffers by", "x", 4, true, ratio(of("ws-mem", "Centrifuge, tuned buffers", clientRSS), of("ws-mem", "ours", clientRSS))},
		{stretch, "resident", "bytes", 4_000, false, of("ws-mem", "ours", clientRSS)},
		{stretch, "below Centrifuge by", "x", 7.3, true, ratio(of("ws-mem", "Centrifuge", clientRSS), of("ws-mem", "ours", clientRSS))},
		{stretch, "a transport without goroutines, which there is not", "bytes", 512, false, nil},
		{inform, "of a visitor that only watches", "bytes", 0, false, of("ws-mem", "ours, visitors that only watch", clientRSS)},
		{inform, "all close at once, processors, against Centrifuge", "x", 0, false, ratio(of("ws-mem", "ours", disconnectCPU), of("ws-mem", "Centrifuge", disconnectCPU))},
	}},
	{id: "G14", title: "bytes of an event stream", checks: []check{
		{must, "resident", "bytes", 6_000, false, of("sse-mem", "ours", clientRSS)},
		{stretch, "resident", "bytes", 4_200, false, of("sse-mem", "ours", clientRSS)},
		{stretch, "below net/http with a channel by", "x", 6, true, ratio(of("sse-mem", "net/http + channel", clientRSS), of("sse-mem", "ours", clientRSS))},
		{stretch, "goroutines", "", 1, false, of("sse-mem", "ours", clientGo)},
	}},
	{id: "G15", title: "connect over a WebSocket", checks: []check{
		{must, "to a channel of its own", "cpu us", 55, false, of("ws-own", "ours", connectCPU)},
		{must, "to a channel of its own, below Centrifuge by", "x", 1.4, true, ratio(of("ws-own", "Centrifuge", connectCPU), of("ws-own", "ours", connectCPU))},
		{must, "rooms of 50, clients a second, above Centrifuge by", "x", 2.5, true, ratio(of("ws-rooms", together, connectRate), of("ws-rooms", "Centrifuge", connectRate))},
		{stretch, "to a channel of its own", "cpu us", 38, false, of("ws-own", "ours", connectCPU)},
		{stretch, "to a channel of its own, below Centrifuge by", "x", 2, true, ratio(of("ws-own", "Centrifuge", connectCPU), of("ws-own", "ours", connectCPU))},
		{stretch, "rooms of 50, clients a second, above Centrifuge by", "x", 4.5, true, ratio(of("ws-rooms", together, connectRate), of("ws-rooms", "Centrifuge", connectRate))},
		{inform, "rooms of 50, processors, below Centrifuge by", "x", 0, true, ratio(of("ws-rooms", "Centrifuge", connectCPU), of("ws-rooms", together, connectCPU))},
	}},
	{id: "G16", title: "heartbeat over a WebSocket", checks: []check{
		{must, "against a goroutine a socket", "x", 1.15, false, ratio(of("ws-hb", "ours", messageCPU), of("ws-hb", "goroutine a socket", messageCPU))},
		{must, "decoding and engine, of it", "%", 3, false, shareOfHeartbeat},
		{stretch, "against a goroutine a socket", "x", 1.05, false, ratio(of("ws-hb", "ours", messageCPU), of("ws-hb", "goroutine a socket", messageCPU))},
		{stretch, "decoding and engine, of it", "%", 1, false, shareOfHeartbeat},
		{inform, "against Centrifuge", "x", 0, false, ratio(of("ws-hb", "ours", messageCPU), of("ws-hb", "Centrifuge, a message to the application", messageCPU))},
	}},
	{id: "G17", title: "adapters of brokers", later: "needs the adapters of brokers"},
	{id: "G18", title: "JSON of a diff", checks: []check{
		{must, "1 and 20 joins, against encoding/json", "x", 0.5, false, largest(jsonRatio("json/1"), jsonRatio("json/20"))},
		{must, "allocations", "", 0, false, whole(largest(of("json/1", "ours", allocs), of("json/20", "ours", allocs)))},
		{must, "encodings of a diff that many read", "", 1, false, of("json/shared", "ours", "encodings")},
		{stretch, "1 and 20 joins, against encoding/json", "x", 0.3, false, largest(jsonRatio("json/1"), jsonRatio("json/20"))},
		{stretch, "decoding a heartbeat", "ns", 20, false, of("beat", "ours, decoding alone", cpu)},
	}},
	{id: "CORE", title: "the pure core", checks: []check{
		{must, "cold steps of a tracker, in millions a second, with unpack and pack", "", 10, true, combine(func(v []float64) float64 { return 1000 / v[0] }, of("core", "ours, a tracker's step, cold records", cpu))},
		{inform, "cold steps, in millions a second, the step alone", "", 0, false, combine(func(v []float64) float64 { return 1000 / v[0] }, of("core", "ours, step, cold states", cpu))},
		{inform, "steps of one state, in millions a second", "", 0, false, combine(func(v []float64) float64 { return 1000 / v[0] }, of("core", "ours, step, one state", cpu))},
	}},
}

// shareOfHeartbeat is the share of a heartbeat over a WebSocket that the
// transport does not cause.
var shareOfHeartbeat = combine(func(v []float64) float64 { return 100 * v[0] / (1000 * v[1]) }, of("beat", "ours, a session's", cpu), of("ws-hb", "ours", messageCPU))

func jsonRatio(experiment string) func(*runner) figure {
	return ratio(of(experiment, "ours", wall), of(experiment, "encoding/json", wall))
}

func inMicros(f func(*runner) figure) func(*runner) figure {
	return combine(func(v []float64) float64 { return v[0] / 1000 }, f)
}

// whole drops fractions of an allocation, which other goroutines cause, and the
// noise of allocations, which have none.
func whole(f func(*runner) figure) func(*runner) figure {
	return func(r *runner) figure {
		g := combined(func(v []float64) float64 { return math.Floor(v[0]) }, f(r))
		g.noisy = false
		return g
	}
}
