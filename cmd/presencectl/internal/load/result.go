package load

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/presence-go/presence/internal/fleet"
)

// Result is the result of a load. Latencies are in milliseconds.
type Result struct {
	Started     time.Time `json:"started"`
	Seconds     float64   `json:"seconds"` // from the start of the first client to the end of actions
	Interrupted bool      `json:"interrupted"`
	URLs        []string  `json:"urls"`
	Channel     string    `json:"channel"`
	Agents      int       `json:"agents"`
	Visitors    int       `json:"visitors"`

	MostConnected int64           `json:"mostConnected"`
	Connects      uint64          `json:"connects"`
	ConnectsRate  float64         `json:"connectsPerSecond"`
	Connect       fleet.Quantiles `json:"connectLatency"` // from opening the socket to the welcome

	MessagesIn  uint64  `json:"messagesIn"`
	InRate      float64 `json:"messagesInPerSecond"`
	MessagesOut uint64  `json:"messagesOut"`
	OutRate     float64 `json:"messagesOutPerSecond"`
	Pings       uint64  `json:"pingsAnswered"`
	BytesIn     uint64  `json:"bytesIn"`
	BytesOut    uint64  `json:"bytesOut"`

	Claims     uint64          `json:"claims"`
	ClaimsRate float64         `json:"claimsPerSecond"`
	Answered   uint64          `json:"claimsAnswered"`
	Seen       uint64          `json:"claimsSeen"`      // received by at least one watcher
	Answer     fleet.Quantiles `json:"answerLatency"`   // from sending a claim to its answer
	Change     fleet.Quantiles `json:"changeLatency"`   // from sending a claim to its arrival at a watcher
	Changes    []fleet.Bar     `json:"changeLatencies"` // their distribution

	Snapshots uint64 `json:"snapshots"`
	Diffs     uint64 `json:"diffs"`
	Resumed   uint64 `json:"resumed"` // watches resumed with diffs
	Resyncs   uint64 `json:"resyncs"` // snapshots in place of diffs

	Refusals    map[string]uint64 `json:"refusals"`    // by code
	Disconnects map[string]uint64 `json:"disconnects"` // by reason

	Compared int `json:"listsCompared"` // at the end, with fresh lists
	Same     int `json:"listsSame"`

	Server  *fleet.Process  `json:"server"` // null if unknown
	Self    *fleet.Process  `json:"self"`   // null if unknown
	Late    fleet.Quantiles `json:"late"`   // delay of clients' actions
	Samples []Sample        `json:"samples"`

	FaultCount uint64  `json:"faultCount"`
	Faults     []Fault `json:"faults"`
}

// Sample is a part of a load: rates and latencies since the sample before.
type Sample struct {
	At        float64         `json:"at"` // seconds
	Connected int64           `json:"connected"`
	Connects  float64         `json:"connectsPerSecond"`
	In        float64         `json:"messagesInPerSecond"`
	Out       float64         `json:"messagesOutPerSecond"`
	Claims    float64         `json:"claimsPerSecond"`
	Change    fleet.Quantiles `json:"changeLatency"`
	RSS       uint64          `json:"serverRSS"` // 0 if unknown
	Faults    uint64          `json:"faultCount"`
}

// mark is the counters at some time.
type mark struct {
	at                      time.Time
	opened, in, out, claims uint64
	changes                 fleet.Counts
}

func (r *runner) mark() *mark {
	m := &mark{at: time.Now(), opened: r.opened.Load(), in: r.received.Load(), out: r.sent.Load(), claims: r.sentClaims.Load()}
	r.changes.Counts(&m.changes)
	return m
}

// sample is the difference between two marks.
func (r *runner) sample(from, to *mark) Sample {
	seconds := max(to.at.Sub(from.at).Seconds(), 0.001)
	_, faulty := r.faults.all()
	return Sample{
		At: to.at.Sub(r.began).Seconds(), Connected: r.connected.Load(),
		Connects: float64(to.opened-from.opened) / seconds, In: float64(to.in-from.in) / seconds, Out: float64(to.out-from.out) / seconds,
		Claims: float64(to.claims-from.claims) / seconds, Change: to.changes.Since(&from.changes), RSS: r.server.RSS(), Faults: faulty,
	}
}

// result sums up a load that is over. Rates are over the time in which clients
// acted.
func (r *runner) result(interrupted bool) *Result {
	list, faulty := r.faults.all()
	r.frames.mu.Lock()
	seen := r.frames.seen
	r.frames.mu.Unlock()
	return &Result{
		Started: r.began.UTC(), Seconds: r.ended.Sub(r.began).Seconds(), Interrupted: interrupted,
		URLs: r.urls(), Channel: r.Channel, Agents: r.Agents, Visitors: r.Visitors,
		MostConnected: r.most, Connects: r.opened.Load(), ConnectsRate: r.totals.Connects, Connect: r.connects.Quantiles(),
		MessagesIn: r.received.Load(), InRate: r.totals.In, MessagesOut: r.sent.Load(), OutRate: r.totals.Out, Pings: r.pings.Load(),
		BytesIn: r.dialer.In.Load(), BytesOut: r.dialer.Out.Load(),
		Claims: r.sentClaims.Load(), ClaimsRate: r.totals.Claims, Answered: r.doneClaims.Load(), Seen: seen,
		Answer: r.answers.Quantiles(), Change: r.changes.Quantiles(), Changes: r.changes.Bars(),
		Snapshots: r.snapshots.Load(), Diffs: r.diffs.Load(), Resumed: r.resumed.Load(), Resyncs: r.resyncs.Load(),
		Refusals: r.refusals.all(), Disconnects: r.ends.all(), Compared: r.compared, Same: r.same,
		Server: r.server.Process(), Self: r.self.Process(), Late: r.late.Quantiles(), Samples: r.samples,
		FaultCount: faulty, Faults: list,
	}
}

// say prints a line of progress.
func (r *runner) say(s Sample) {
	change := "no change seen yet"
	if q := r.changes.Quantiles(); q.Count > 0 {
		change = fmt.Sprintf("change p50 %s p99 %s", fleet.Millis(q.P50), fleet.Millis(q.P99))
	}
	fmt.Fprintf(r.progress, "%4.0f s  %d of %d connected  connects %s/s  messages in %s/s out %s/s  claims %s/s  %s  faults %d\n",
		s.At, s.Connected, len(r.crowd), round(s.Connects), round(s.In), round(s.Out), round(s.Claims), change, s.Faults)
}

// round writes a number, with a decimal if it is small.
func round(x float64) string {
	if x < 10 {
		return fmt.Sprintf("%.1f", x)
	}
	return fmt.Sprintf("%.0f", x)
}

// writeText writes the summary.
func (r *Result) writeText(w io.Writer) {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-12s "+format+"\n", append([]any{name}, args...)...)
	}
	stopped := ""
	if r.Interrupted {
		stopped = ", interrupted"
	}
	line("load", "%d agents and %d visitors for %.1f s%s, channel %s at %s", r.Agents, r.Visitors, r.Seconds, stopped, r.Channel, strings.Join(r.URLs, " and "))
	line("connections", "%d at most at once, %d opened, %s/s; until welcome %v", r.MostConnected, r.Connects, round(r.ConnectsRate), r.Connect)
	line("messages", "%d in, %s/s; %d out, %s/s; %d pings answered", r.MessagesIn, round(r.InRate), r.MessagesOut, round(r.OutRate), r.Pings)
	line("bytes", "%s in, %s out, handshakes and framing included", fleet.Bytes(r.BytesIn), fleet.Bytes(r.BytesOut))
	line("claims", "%d, %s/s; %d answered, %d seen by watchers; until answered %v", r.Claims, round(r.ClaimsRate), r.Answered, r.Seen, r.Answer)
	line("change", "from a claim to a watcher %v", r.Change)
	line("lists", "%d diffs, %d snapshots; %d gone on with, %d resyncs", r.Diffs, r.Snapshots, r.Resumed, r.Resyncs)
	line("at the end", "%d lists compared with fresh ones, %d the same", r.Compared, r.Same)
	line("refusals", "%s", listed(r.Refusals))
	line("disconnects", "%s", listed(r.Disconnects))
	line("server", "%v", r.Server)
	line("this process", "%v; clients did things late by %v", r.Self, r.Late)
	if r.FaultCount == 0 {
		line("faults", "none")
		return
	}
	line("faults", "%d", r.FaultCount)
	for _, f := range r.Faults {
		fmt.Fprintf(w, "  %s: %d; the first: %s\n", f.Kind, f.Count, f.First)
	}
}
