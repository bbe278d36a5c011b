package load

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/presence-go/presence/internal/fleet"
)

// Config is what load is put on, and how much.
type Config struct {
	AgentURL, VisitorURL string // with {id} and {token}
	Channel              string
	Agents, Visitors     int
	Names, VisitorNames  string
	For, Ramp            time.Duration
	patience             time.Duration // how long the server may take to open, answer and close
	PID                  int           // of the server, 0 if it is not known

	every   [actions]time.Duration // how often a client does something, on average; 0 for never
	tokens  map[string]string      // by id; "*" for all others
	headers []header
}

type header struct{ name, value string }

// runner runs a load.
type runner struct {
	*Config
	progress io.Writer
	run      string // distinguishes this run from others
	began    time.Time
	ended    time.Time // when clients stopped doing things

	people   map[string]*person
	frames   *frames
	crowd    []*client
	clients  sync.WaitGroup
	stopped  chan struct{} // nobody does anything by itself any more
	finished chan struct{} // everybody leaves

	statuses atomic.Pointer[[]string]
	visitors atomic.Uint64
	dialer   fleet.Dialer
	refs     atomic.Uint64

	connected                          atomic.Int64
	opened, sent, received, pings      atomic.Uint64
	sentClaims, doneClaims             atomic.Uint64
	snapshots, diffs, resumed, resyncs atomic.Uint64
	connects, answers, changes, late   fleet.Histogram
	refusals, ends                     tally
	faults                             faults
	compared, same                     int
	most                               int64
	samples                            []Sample
	totals                             Sample // of the whole time
	server, self                       fleet.Meter
}

func newRunner(c *Config, progress io.Writer) *runner {
	r := &runner{
		Config: c, progress: progress, run: rand.Text()[:6], people: make(map[string]*person),
		stopped: make(chan struct{}), finished: make(chan struct{}),
	}
	r.server.PID, r.self.PID, r.dialer.Patience = c.PID, os.Getpid(), c.patience
	r.frames = newFrames(r.people)
	var none [actions]time.Duration
	for i := range c.Agents {
		id := numbered(c.Names, i)
		p := r.people[id]
		if p == nil {
			p = &person{id: id}
			r.people[id] = p
		}
		every := c.every
		every[actLeave] = 0
		r.crowd = append(r.crowd, &client{r: r, who: p, id: id, conn: fmt.Sprintf("load-%s-%d", r.run, i+1), every: &every})
	}
	every := none
	every[actLeave] = c.every[actLeave]
	for range c.Visitors {
		r.crowd = append(r.crowd, &client{r: r, id: r.nextVisitor(), every: &every})
	}
	return r
}

// numbered is the name of the one with an index: of a pattern with {n}, or the
// next of several, which take turns.
func numbered(names string, i int) string {
	if strings.Contains(names, "{n}") {
		return strings.ReplaceAll(names, "{n}", strconv.Itoa(i+1))
	}
	list := strings.Split(names, ",")
	return list[i%len(list)]
}

func (r *runner) nextVisitor() string {
	return strings.ReplaceAll(r.VisitorNames, "{n}", r.run+"-"+strconv.FormatUint(r.visitors.Add(1), 10))
}

// patterns is all in which something may stand for who is connecting.
func (c *Config) patterns() string {
	list := []string{c.AgentURL, c.VisitorURL}
	for _, h := range c.headers {
		list = append(list, h.value)
	}
	return strings.Join(list, " ")
}

func (r *runner) choices() []string {
	if list := r.statuses.Load(); list != nil {
		return *list
	}
	return nil
}

func (r *runner) offer(statuses []string) { r.statuses.Store(&statuses) }

// pause waits, and reports whether the load still goes on.
func (r *runner) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return !r.isStopped()
	case <-r.stopped:
		return false
	}
}

func (r *runner) isStopped() bool   { return isClosed(r.stopped) }
func (r *runner) isFinishing() bool { return isClosed(r.finished) }

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// execute puts the load on until its time is over or ctx is done, looks at what
// everybody has seen, and has everybody leave.
func (r *runner) execute(ctx context.Context) *Result {
	r.began = time.Now()
	r.server.Read()
	r.self.Read()
	for _, c := range r.crowd {
		r.clients.Go(c.live)
	}
	watching, stop := context.WithCancel(context.Background())
	var watcher sync.WaitGroup
	watcher.Go(func() { r.watch(watching) })

	over := time.NewTimer(r.For)
	interrupted := false
	select {
	case <-over.C:
	case <-ctx.Done():
		interrupted = true
	}
	over.Stop()
	close(r.stopped)
	r.ended = time.Now()
	stop()
	watcher.Wait()
	fmt.Fprintln(r.progress, "comparing what everybody was told")
	checkers := r.check()
	r.finish(append(checkers, r.crowd...))
	return r.result(interrupted)
}

// try opens a session of an agent and one of a visitor, to find out whether they
// may do what they are to do. Whatever else is wrong with the server is left for
// the load to find. The runner is of no use after that.
func (r *runner) try(ctx context.Context) error {
	var tried []*client
	for _, c := range r.crowd {
		if len(tried) == 0 || (tried[0].who == nil) != (c.who == nil) {
			tried = append(tried, c)
		}
		if len(tried) == 2 {
			break
		}
	}
	for _, of := range tried {
		c := &client{r: r, who: of.who, id: of.id, conn: of.conn, every: &[actions]time.Duration{}}
		err := c.open(ctx, true)
		// Until then everybody must have been told everything.
		for limit := time.Now().Add(r.patience); err == nil && c.list.epoch == "" && len(r.refusals.all()) == 0 && time.Now().Before(limit); {
			err = c.read(limit)
		}
		if err == nil {
			err = c.leave("tried")
		}
		c.gone()
		if refused, ok := errors.AsType[errRefused](err); ok {
			if !refused.answered {
				return fmt.Errorf("%s cannot be reached: %w; start a server, say where it is with -url, or have one started with -serve", r.pattern(c.who != nil), refused)
			}
			return fmt.Errorf("%s is not let in at %s: %w", c.name(), r.pattern(c.who != nil), refused)
		}
		for code := range r.refusals.all() {
			list, _ := r.faults.all()
			return fmt.Errorf("channel %q cannot be watched: %s: %s; name another with -channel, or agents who may with -names", r.Channel, code, list[0].First)
		}
	}
	return nil
}

// finish has everybody leave and waits until they have.
func (r *runner) finish(all []*client) {
	close(r.finished)
	for i, c := range all {
		c.wake()
		if i%500 == 499 {
			time.Sleep(50 * time.Millisecond) // a thousand a tenth of a second, so as to be no storm
		}
	}
	r.clients.Wait()
}

// check compares the list of everybody with one that the server makes anew. It
// returns those who asked for that.
func (r *runner) check() (checkers []*client) {
	by := make(map[bool]*client)
	for _, c := range r.crowd {
		agent := c.who != nil
		if by[agent] != nil || !c.isThere() {
			continue
		}
		checker := &client{r: r, who: c.who, id: c.id, conn: "load-" + r.run + "-check", every: &[actions]time.Duration{}}
		by[agent] = checker
		checkers = append(checkers, checker)
		r.clients.Go(func() { _, _ = checker.session(false) })
	}
	left := make([]*client, 0, len(r.crowd))
	for _, c := range r.crowd {
		if by[c.who != nil] != nil && c.isThere() {
			left = append(left, c)
		}
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	// Until then everybody must have been told everything.
	for limit := time.Now().Add(r.patience); ; <-tick.C {
		last := time.Now().After(limit)
		waiting := left[:0]
		for _, c := range left {
			if !r.compare(c, by[c.who != nil], last) {
				waiting = append(waiting, c)
			}
		}
		if left = waiting; len(left) == 0 || last {
			return checkers
		}
	}
}

// compare compares the list of a client with a fresh one, and reports whether
// there is nothing more to wait for: something may be on the way to either.
func (r *runner) compare(c, fresh *client, last bool) (settled bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fresh.mu.Lock()
	defer fresh.mu.Unlock()
	switch {
	case !c.there:
		return true // which is a fault of its own
	case fresh.list.epoch == "":
		if last {
			r.faults.add("not compared", "%s: no fresh list came within %v to compare with", c.name(), r.patience)
		}
		return last
	case c.list.epoch == "":
		if last {
			r.faults.add("no list", "%s: no list came", c.name())
		}
		return last
	case c.asking && !last:
		return false
	}
	numbers := c.list.differs(&fresh.list)
	level := c.list.epoch == fresh.list.epoch && c.list.seq == fresh.list.seq
	if len(numbers) > 0 && !level && !last {
		return false
	}
	r.compared++
	if len(numbers) == 0 {
		r.same++
		return true
	}
	names := make([]string, 0, 3)
	for _, n := range numbers[:min(len(numbers), cap(names))] {
		names = append(names, r.frames.name(n))
	}
	r.faults.add("list differs", "%s: after frame %d of epoch %s its list differs from a fresh one, frame %d of %s, in %d rows, among them %s",
		c.name(), c.list.seq, c.list.epoch, fresh.list.seq, fresh.list.epoch, len(numbers), strings.Join(names, ", "))
	return true
}

// watch says how it goes once a second, and takes samples, of which there are at
// most some hundreds.
func (r *runner) watch(ctx context.Context) {
	every := min(max(r.For/60, 500*time.Millisecond), time.Second)
	if r.For > 10*time.Minute {
		every = r.For / 600
	}
	tick := time.NewTicker(min(every, time.Second))
	defer tick.Stop()
	sampled, said := r.mark(), r.mark()
	for {
		over := false
		select {
		case <-tick.C:
		case <-ctx.Done():
			over = true
		}
		r.server.Read()
		r.self.Read()
		r.most = max(r.most, r.connected.Load())
		if now := r.mark(); now.at.Sub(sampled.at) > every/2 {
			r.samples = append(r.samples, r.sample(sampled, now))
			sampled = now
		}
		if now := r.mark(); now.at.Sub(said.at) > 900*time.Millisecond || over && now.at.Sub(said.at) > every/2 {
			r.say(r.sample(said, now))
			said = now
		}
		if over {
			r.totals = r.sample(&mark{at: r.began}, r.mark())
			return
		}
	}
}
