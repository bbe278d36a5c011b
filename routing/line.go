package routing

import (
	"cmp"
	"container/heap"
	"math"
	"slices"
	"sort"

	"github.com/presence-go/presence"
)

// piece is a piece of work with what only the queue knows of it.
type piece struct {
	Work
	order  uint64           // of its first arrival, or of the last one after it was done
	line   *line            // waiting: where
	begun  bool             // its agent has started it, or was chosen by an actor: it cannot be declined
	answer presence.Instant // given: when it must be started; 0 means never
	// declined has the agents that did not take it up, with their revisions after
	// that. Each is passed over at that revision.
	declined map[presence.Ref]presence.Instant
}

// line has the pieces that wait for the same, in order of arrival: either an agent
// takes each of them or none.
type line struct {
	need
	pieces []*piece
}

// need is what the pieces of a line wait for.
type need struct {
	lane
	to    presence.Ref     // that they are meant for
	agent presence.Ref     // of their client, until the instant
	until presence.Instant // the end of time while the client has work with the agent
	own   string           // the id of a piece that was declined, which has its own line
}

// lane is what the choice among all members of a channel depends on.
type lane struct {
	channel presence.Channel
	on      string
	weight  int
}

// clientWork is the work of one client.
type clientWork struct {
	waiting []*piece // in order of arrival
	given   []*piece // in order of giving
	done    []*piece // in order of ending

	agent presence.Ref     // had the work that ended last
	until presence.Instant // that the client belongs to that agent

	// The agent of the lines in which the client's work waits, and until when.
	lines struct {
		agent presence.Ref
		until presence.Instant
	}
}

func (c *clientWork) at(place Place) *[]*piece {
	switch place {
	case Waiting:
		return &c.waiting
	case Given:
		return &c.given
	}
	return &c.done
}

// owner returns the agent that a client belongs to, and until when.
func (c *clientWork) owner() (agent presence.Ref, until presence.Instant) {
	if n := len(c.given); n > 0 {
		return c.given[n-1].Agent, math.MaxInt64
	}
	return c.agent, c.until
}

// move brings a piece of work to a place. It is the only way there, and keeps all
// indexes.
func (q *Queue) move(w *piece, place Place, agent presence.Ref) {
	had := w.Place == Given
	q.take(w)
	w.Place, w.Agent, w.Since = place, agent, q.desk.Now()
	rule := q.rule(w.Channel.Tenant)
	if within := rule.AcceptWithin; place == Given && !w.Started && within > 0 {
		w.answer = w.Since.Add(within)
	}
	q.put(w)
	if c := q.clients[w.Client]; c != nil {
		switch { // the client stays with the agent only if the work has ended
		case had && place == Done:
			c.agent, c.until = agent, w.Since.Add(rule.Affinity)
		case had && place == Waiting && c.agent == agent:
			c.agent, c.until = presence.Ref{}, 0
		}
		q.rebind(c)
	}
	q.tell(w)
}

func (q *Queue) tell(w *piece) {
	if q.opts.Observe != nil {
		q.opts.Observe(w.Work)
	}
}

// forget drops a piece of work.
func (q *Queue) forget(w *piece) {
	q.take(w)
	delete(q.work, w.ID)
	if c := q.clients[w.Client]; c != nil && len(c.waiting)+len(c.given)+len(c.done) == 0 {
		delete(q.clients, w.Client)
	}
}

// put adds a piece to the indexes of its place.
func (q *Queue) put(w *piece) {
	if w.Client != "" {
		c := q.clients[w.Client]
		if c == nil {
			c = new(clientWork)
			q.clients[w.Client] = c
		}
		list := c.at(w.Place)
		if w.Place == Waiting {
			*list = insert(*list, w, byArrival)
		} else {
			*list = append(*list, w)
		}
	}
	switch w.Place {
	case Waiting:
		q.queueUp(w)
	case Given:
		q.given[w.Agent] = append(q.given[w.Agent], w)
		if w.answer != 0 {
			q.offers = insert(q.offers, w, byAnswer)
		}
	case Done:
		q.done = append(q.done, w)
	}
}

// take removes a piece from the indexes of its place.
func (q *Queue) take(w *piece) {
	if c := q.clients[w.Client]; c != nil {
		list := c.at(w.Place)
		*list = remove(*list, w)
	}
	switch w.Place {
	case Waiting:
		q.leave(w)
	case Given:
		if q.given[w.Agent] = remove(q.given[w.Agent], w); len(q.given[w.Agent]) == 0 {
			delete(q.given, w.Agent)
		}
		q.answered(w)
	case Done:
		q.done = remove(q.done, w)
	}
}

// answered ends the time that an agent has to start a piece of work.
func (q *Queue) answered(w *piece) {
	if w.answer != 0 {
		q.offers = remove(q.offers, w)
		w.answer = 0
	}
}

// needOf returns what a waiting piece waits for.
func (q *Queue) needOf(w *piece) need {
	n := need{lane: lane{w.Channel, w.On, w.Weight}, to: w.To}
	if len(w.declined) > 0 {
		n.own = w.ID
	}
	if c := q.clients[w.Client]; c != nil {
		n.agent, n.until = c.lines.agent, c.lines.until
	}
	return n
}

// rebind brings the waiting work of a client to the lines of the agent that the
// client now belongs to.
func (q *Queue) rebind(c *clientWork) {
	agent, until := c.owner()
	if agent == c.lines.agent && until == c.lines.until {
		return
	}
	c.lines.agent, c.lines.until = agent, until
	for _, w := range c.waiting {
		q.leave(w)
		q.queueUp(w)
	}
}

// queueUp adds a piece to its line.
func (q *Queue) queueUp(w *piece) {
	n := q.needOf(w)
	l := q.lines[n]
	if l == nil {
		l = &line{need: n}
		q.lines[n] = l
	}
	w.line = l
	l.pieces = insert(l.pieces, w, byArrival)
	if l.pieces[0] == w {
		heap.Push(&q.heads, head{w.order, l})
	}
}

// leave removes a piece from its line.
func (q *Queue) leave(w *piece) {
	l := w.line
	first := l.pieces[0] == w
	w.line, l.pieces = nil, remove(l.pieces, w)
	switch {
	case len(l.pieces) == 0:
		delete(q.lines, l.need)
	case first:
		heap.Push(&q.heads, head{l.pieces[0].order, l})
	}
}

// head is the first piece of a line, by its order of arrival.
type head struct {
	order uint64
	line  *line
}

// heads is a heap of lines whose first piece has not been looked at. It may have
// entries of pieces that have left the line.
type heads []head

func (h heads) Len() int           { return len(h) }
func (h heads) Less(i, j int) bool { return h[i].order < h[j].order }
func (h heads) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *heads) Push(x any)        { *h = append(*h, x.(head)) }
func (h *heads) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	*h = (*h)[:last]
	return x
}

func byArrival(a, b *piece) int { return cmp.Compare(a.order, b.order) }

func byAnswer(a, b *piece) int { return cmp.Compare(a.answer, b.answer) }

// insert adds a piece to a sorted list, behind its equals.
func insert(list []*piece, w *piece, compare func(a, b *piece) int) []*piece {
	at := sort.Search(len(list), func(i int) bool { return compare(w, list[i]) < 0 })
	return slices.Insert(list, at, w)
}

// remove removes a piece from a list. Nothing is copied to remove the first.
func remove(list []*piece, w *piece) []*piece {
	switch at := slices.Index(list, w); at {
	case -1:
		return list
	case 0:
		list[0] = nil
		return list[1:]
	default:
		return slices.Delete(list, at, at+1)
	}
}
