package main

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/sqlite"
	"github.com/presence-go/presence/adapters/wire"
	"github.com/presence-go/presence/adapters/ws"
	"github.com/presence-go/presence/client"
	"github.com/presence-go/presence/internal/timeline"
	"github.com/presence-go/presence/preset"
	"github.com/presence-go/presence/routing"
)

//go:embed web
var assets embed.FS

// desk is the help desk: a tracker, the sockets of its pages, and the other
// data of the pages.
type desk struct {
	storage *sqlite.Storage
	tracker *presence.Tracker
	sockets *wire.Server
	queue   *routing.Queue
	feed    *feed

	// The clock has a speed of its own. Therefore nothing runs by itself: beat
	// moves the clock and sweeps. A program without a speed-up sets no clock in
	// presence.Options and calls Tracker.Run.
	clock  *timeline.Still
	ticker *time.Ticker
	stop   context.CancelFunc
	beats  sync.WaitGroup

	mu        sync.Mutex
	speed     float64
	policy    string
	greetings map[string]string // by group status
	messages  []note            // left by customers
	notes     []note            // of the team, to show that the desk can be used
	hours     map[string]hours  // by channel
	chats     int
}

type note struct {
	From string           `json:"from"`
	Text string           `json:"text"`
	At   presence.Instant `json:"at"`
}

// maxNotes is the limit of stored messages and notes.
const maxNotes = 50

func open(ctx context.Context, db string, p presence.Policy, speed float64) (_ *desk, err error) {
	if err := checkSpeed(speed); err != nil {
		return nil, err
	}
	d := &desk{
		clock: timeline.NewStill(time.Now()), feed: newFeed(), speed: speed, policy: p.Name, hours: make(map[string]hours),
		greetings: map[string]string{
			presence.GroupAvailable: "Hello! Ask us anything, we usually answer within a minute.",
			presence.GroupAway:      "We have stepped away. Leave a message: we are back within the hour.",
			presence.GroupOffline:   "We are closed. Leave a message and we will write to you tomorrow.",
		},
	}
	if d.storage, err = sqlite.Open(ctx, db, nil); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = d.storage.Close()
		}
	}()
	if err := d.startClock(ctx); err != nil {
		return nil, err
	}
	if d.tracker, err = presence.New(&presence.Options{Policy: &p, Storage: d.storage, Clock: d.clock, Logger: slog.Default()}); err != nil {
		return nil, err
	}
	d.tracker.Observe(d.feed.observe)
	if d.queue, err = routing.New(d.tracker, &routing.Options{Observe: d.told, Open: d.openNow}); err != nil {
		return nil, err
	}
	if d.sockets, err = wire.New(d.tracker, &wire.Options{Authenticate: authenticate}); err != nil {
		return nil, err
	}
	for channel, inbox := range channels {
		if err := d.tracker.Link(ctx, presence.ChannelID(channel), presence.ChannelID(inbox)); err != nil {
			return nil, err
		}
	}
	for agent, inboxes := range agents {
		for _, inbox := range inboxes {
			if err := d.tracker.AddMember(ctx, presence.ChannelID(inbox), presence.ID(agent)); err != nil {
				return nil, err
			}
		}
	}
	ctx, d.stop = context.WithCancel(ctx)
	d.ticker = time.NewTicker(50 * time.Millisecond)
	d.beats.Go(func() { d.beat(ctx) })
	return d, nil
}

func (d *desk) close() {
	d.stop()
	d.beats.Wait()
	d.ticker.Stop()
	d.feed.close()
	_ = d.sockets.Close() // a second close is harmless
	if err := d.tracker.Close(); err != nil && !errors.Is(err, presence.ErrClosed) {
		log.Print(err)
	}
	_ = d.storage.Close()
}

// startClock sets the clock to now, or to its last time if the last run went
// faster. The time of a history must not step back.
func (d *desk) startClock(ctx context.Context) error {
	now := time.Now().UTC()
	q := presence.JournalQuery{From: presence.At(now)}
	for {
		rows, err := d.storage.Journal(ctx, q)
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			break
		}
		q.After = rows[len(rows)-1]
		now = q.After.At.Time().Add(time.Second)
	}
	d.clock.Set(now)
	return nil
}

// beat moves the clock at the chosen speed and processes what is due.
func (d *desk) beat(ctx context.Context) {
	storing := true
	for last := time.Now(); ; {
		select {
		case <-d.ticker.C:
		case <-ctx.Done():
			return
		}
		now := time.Now()
		d.mu.Lock()
		passed := time.Duration(float64(now.Sub(last)) * d.speed)
		d.mu.Unlock()
		last = now
		d.clock.Add(passed)
		_, err := d.tracker.Sweep(ctx)
		if stored := err == nil; stored != storing && ctx.Err() == nil {
			storing = stored
			log.Printf("helpdesk: what happens is stored: %v; %+v", stored, d.tracker.Stats())
		}
		d.sockets.Sweep()
		_ = d.queue.Step(ctx)
	}
}

// authenticate accepts every name; see the package comment.
func authenticate(r *http.Request) (presence.Identity, error) {
	q := r.URL.Query()
	if agent := q.Get("agent"); agent != "" {
		if agents[agent] == nil {
			return presence.Identity{}, fmt.Errorf("helpdesk: unknown agent %q: %w", agent, presence.ErrNotAllowed)
		}
		return presence.Identity{Actor: presence.Agent(presence.ID(agent))}, nil
	}
	if q.Has("supervisor") {
		return presence.Identity{Actor: boss}, nil
	}
	if visitor := q.Get("visitor"); visitor != "" {
		return presence.Identity{Actor: presence.Actor{Subject: presence.ID("visitor-" + visitor), Role: presence.RoleVisitor}}, nil
	}
	return presence.Identity{}, errors.New("helpdesk: say who you are with ?agent= or ?visitor=")
}

func (d *desk) routes() http.Handler {
	web, err := fs.Sub(assets, "web")
	if err != nil {
		panic(err) // the folder is embedded
	}
	mux := http.NewServeMux()
	page := func(path, file string) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) { http.ServeFileFS(w, r, web, file) })
	}
	page("/{$}", "overview.html")
	page("/console", "console.html")
	page("/widget", "widget.html")
	page("/timeline", "timeline.html")
	page("/supervisor", "supervisor.html")
	mux.Handle("GET /web/", http.StripPrefix("/web/", http.FileServerFS(web)))
	mux.Handle("GET /client/", http.StripPrefix("/client/", http.FileServerFS(client.Files())))
	mux.Handle("GET /ws", ws.Over(d.sockets))
	mux.Handle("GET /feed", d.feed)
	mux.HandleFunc("GET /api/state", d.state)
	mux.HandleFunc("GET /api/history", d.feed.history)
	mux.HandleFunc("GET /api/explain", d.explain)
	mux.HandleFunc("GET /api/team", d.team)
	mux.HandleFunc("GET /api/work", d.work)
	mux.HandleFunc("POST /api/work", post(d.doWork))
	mux.HandleFunc("GET /api/report/{kind}", d.reports)
	mux.HandleFunc("POST /api/hours", post(d.setHours))
	mux.HandleFunc("POST /api/speed", post(d.setSpeed))
	mux.HandleFunc("POST /api/policy", post(d.setPolicy))
	mux.HandleFunc("POST /api/greeting", post(d.setGreeting))
	mux.HandleFunc("POST /api/messages", post(d.leaveMessage))
	mux.HandleFunc("POST /api/notes", post(d.addNote))
	return mux
}

// state returns the data of the pages besides presence.
func (d *desk) state(w http.ResponseWriter, _ *http.Request) {
	m := d.tracker.Machine("")
	d.mu.Lock()
	defer d.mu.Unlock()
	reply(w, map[string]any{
		"now": presence.At(d.clock.Now()), "speed": d.speed, "policy": d.policy, "policies": preset.Names(),
		"greetings": d.greetings, "messages": d.messages, "notes": d.notes, "agents": sorted(agents), "channels": sorted(channels), "hours": d.hoursLocked(),
		"statuses": m.Policy().Statuses, "labels": m.Labels(), "changeable": m.Selectable(presence.BySupervisor),
	})
}

func (d *desk) explain(w http.ResponseWriter, r *http.Request) {
	lines, err := d.tracker.ExplainAs(r.Context(), presence.AudienceAdmin, presence.ID(r.URL.Query().Get("agent")))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	reply(w, lines)
}

// request is a request of the pages. The path decides which fields are read.
type request struct {
	Speed  float64 `json:"speed"`
	Policy string  `json:"policy"`
	Rung   string  `json:"rung"`
	From   string  `json:"from"`
	Text   string  `json:"text"`

	Do      string `json:"do"`
	ID      string `json:"id"`
	Agent   string `json:"agent"`
	Channel string `json:"channel"`
	Status  string `json:"status"`
}

func post(do func(context.Context, request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var q request
		body := http.MaxBytesReader(w, r.Body, 4096)
		if err := json.NewDecoder(body).Decode(&q); err != nil {
			http.Error(w, "helpdesk: the request is not JSON: "+err.Error(), http.StatusBadRequest)
			return
		}
		err := do(r.Context(), q)
		switch {
		case errors.Is(err, presence.ErrNotAllowed):
			http.Error(w, err.Error(), http.StatusForbidden)
		case err != nil:
			http.Error(w, err.Error(), http.StatusBadRequest)
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	}
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the client may be gone
}

func checkSpeed(speed float64) error {
	if !(speed >= 0.1 && speed <= 600) {
		return fmt.Errorf("helpdesk: speed %v is not between 0.1 and 600", speed)
	}
	return nil
}

func (d *desk) setSpeed(_ context.Context, q request) error {
	if err := checkSpeed(q.Speed); err != nil {
		return err
	}
	d.mu.Lock()
	d.speed = q.Speed
	d.mu.Unlock()
	d.feed.say("speed", q.Speed)
	return nil
}

func (d *desk) setPolicy(ctx context.Context, q request) error {
	p, known := preset.Lookup(q.Policy)
	if !known {
		return fmt.Errorf("helpdesk: unknown policy %q", q.Policy)
	}
	if err := d.tracker.SetPolicy(ctx, root, p); err != nil {
		return err
	}
	d.mu.Lock()
	d.policy = q.Policy
	d.mu.Unlock()
	d.feed.say("policy", q.Policy)
	return nil
}

func (d *desk) setGreeting(_ context.Context, q request) error {
	if len(q.Text) > 300 {
		return errors.New("helpdesk: a greeting has 300 bytes at most")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, known := d.greetings[q.Rung]; !known {
		return fmt.Errorf("helpdesk: unknown group status %q", q.Rung)
	}
	d.greetings[q.Rung] = q.Text
	d.feed.say("greeting", q.Rung)
	return nil
}

func (d *desk) leaveMessage(_ context.Context, q request) error {
	if q.From == "" || q.Text == "" || len(q.From) > 100 || len(q.Text) > 1000 {
		return errors.New("helpdesk: a message needs contact details (100 bytes at most) and a text (1,000)")
	}
	d.keep(&d.messages, q)
	d.feed.say("message", q.From)
	return nil
}

// addNote adds a note of a logged-in agent, also of one that is shown as logged
// out.
func (d *desk) addNote(ctx context.Context, q request) error {
	s, err := d.tracker.State(ctx, presence.ID(q.From))
	if err != nil || s.Current.Reach < presence.ReachLingering {
		return fmt.Errorf("helpdesk: %w: log in first", presence.ErrNotAllowed)
	}
	if q.Text == "" || len(q.Text) > 300 {
		return errors.New("helpdesk: a note has 1 to 300 bytes")
	}
	d.keep(&d.notes, q)
	d.feed.say("note", q.From)
	return nil
}

func (d *desk) keep(list *[]note, q request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	*list = append(*list, note{q.From, q.Text, presence.At(d.clock.Now())})
	*list = slices.Clone((*list)[max(0, len(*list)-maxNotes):])
}
