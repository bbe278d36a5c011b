// Package pusher lets unmodified Pusher clients, such as pusher-js and Laravel
// Echo, see presence: it speaks version 7 of the Pusher Channels protocol, its
// HTTP API and its webhooks before a [presence.Tracker].
//
//	handler, err := pusher.New(tracker, &pusher.Options{Apps: []pusher.App{{ID: "1", Key: key, Secret: secret}}})
//	http.Handle("/app/", handler)  // sockets
//	http.Handle("/apps/", handler) // the HTTP API
//
// # What a presence channel is here
//
// The channel presence-sales shows the tracker's channel sales, as the audience
// of the subscriber sees it. Its members are the subjects whose class is not
// offline, connected or not, each once. Their user_info has id, status, class,
// label, color, since and all else that the audience may see, beside what the
// app signs of the user. A change is a further member_added of a member.
// Clients replace their entry with it.
//
// A user who subscribes, or signs in, is connected as the subject of the user's
// id while the socket is open. Grants make it a member. An agent without a
// grant is refused. Users whose id begins with visitor- only observe: they see
// the members and are none.
//
// # Liveness
//
// A quiet socket gets pusher:ping, which clients answer from the page's own
// code. Every message of the page is a heartbeat. The WebSocket's own pings are
// not, since a browser answers them for a frozen page. A client reports no
// input: see [Options.ClientEvent].
//
// # Limits
//
// Everything that a client can grow has a limit. A client that reaches a limit
// gets an error. README.md lists the answers, and what of the protocol is not
// supported.
package pusher

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/internal/edge"
)

// App is an application: a namespace of channels with its own users.
type App struct {
	// ID names the app in the HTTP API, Key in the address that clients connect
	// to. Secret signs requests; keep it from clients.
	ID, Key, Secret string
	// Tenant is the tenant of the app's subjects and channels.
	Tenant string
	// AllowedOrigins lists the origins whose pages may open sockets beside
	// pages of the request's own host, as "https://app.example.com". "*" allows
	// every page: with it, any page can read public channels, since they need
	// no signature.
	AllowedOrigins []string
	// MaxConnections limits the app's open sockets. 0 means no limit of its own.
	MaxConnections int
	// NoClientEvents refuses all client events.
	NoClientEvents bool
	// Webhooks receive the events of the app's channels.
	Webhooks []Webhook
}

// Identity is how a user that an app has signed takes part.
type Identity struct {
	// Identity has the actor. Its role is the one in which the user watches:
	// visitors and systems have no presence and see members without being one.
	// An empty subject means the user in the app's tenant.
	presence.Identity
	// Audience decides what the user sees; empty means the audience of the role.
	Audience presence.Audience
	// Device is the class of device of the user's connection.
	Device string
	// Login means that the user has just entered credentials.
	Login bool
}

// ClientEvent is an event that a client sends to the other subscribers of a
// channel.
type ClientEvent struct {
	// Conn is the connection of the sending member of a presence channel. It is
	// nil on a private channel.
	Conn    *presence.Conn
	Channel string
	Name    string          // it begins with client-
	Data    json.RawMessage // as the client sent it
}

// Options configures a [Handler]. Apps are needed; the zero value of every
// other field means its default.
type Options struct {
	// Apps are the applications served.
	Apps []App
	// Identify returns how a user that an app has signed takes part. An error
	// refuses the user with status 401, one that wraps [presence.ErrNotAllowed]
	// with 403 and its text, one that wraps [presence.ErrUnavailable] with 503.
	// Nil means that users whose id begins with visitor- are visitors and all
	// others agents.
	Identify func(User) (Identity, error)
	// UserInfo returns what clients get of a subject beside its presence, a
	// JSON object or nil. It must be quick. Nil means the user_info that the
	// app signed: in a channel, that of the user's first subscription to it.
	// Without a subscription it is the user_info of the sign-in, or none. The
	// handler hides a change from audiences from which the user hides.
	UserInfo func(subject presence.Ref) json.RawMessage
	// Roster makes offline subjects members too. By default members are the
	// subjects whose class is not offline.
	Roster bool
	// Audience is the audience of the HTTP API and of the webhooks. Empty means the
	// team.
	Audience presence.Audience
	// ClientEvent receives each client event before it is forwarded. An error
	// refuses the event, and the client gets its text. Turn events of a front
	// end into input or claims here: clients report no input by themselves.
	ClientEvent func(context.Context, ClientEvent) error

	// MaxMessage is the longest message taken from a client, in bytes. 0 means 16 KiB.
	MaxMessage int
	// MessagesPerSecond and Burst limit how fast a socket's messages are processed.
	// A faster message is dropped, and the client gets an error. 0 means 20 a second
	// and bursts of 200.
	MessagesPerSecond float64
	Burst             int
	// ClientEventsPerSecond limits the client events of a socket. 0 means 10.
	ClientEventsPerSecond float64
	// MaxSubscriptions is the number of channels that a socket may subscribe to. 0 means 100.
	MaxSubscriptions int
	// MaxQueued is how many bytes of events may wait for a slow client before it is
	// lost. Presence that it misses is sent again as a whole. 0 means 1 MiB.
	MaxQueued int
	// MaxSockets limits the open sockets in all. 0 means 100,000.
	MaxSockets int
	// MaxChannels, MaxCached and MaxUsers are limits of each app. They limit
	// the channels in use, the channels that keep an event, and the infos of
	// users that are kept, one for each user and channel. 0 means 100,000,
	// 10,000 and 100,000.
	MaxChannels int
	MaxCached   int
	MaxUsers    int

	// WriteTimeout is how long a client may take to accept a message before its
	// connection counts as lost. 0 means 10s.
	WriteTimeout time.Duration
	// PingInterval is how long the page may be quiet before it gets a ping. It
	// must be shorter than the policy's lease. 0 means the heartbeat of the
	// policy of the app's tenant.
	PingInterval time.Duration
	// PongTimeout is how long the page may take to answer a ping. 0 means 30s.
	PongTimeout time.Duration
	// VacatedAfter is how long a channel must be without subscriptions before
	// webhooks get channel_vacated, and not before the last member_removed. A
	// channel that is occupied again before sends nothing. 0 means 3s.
	VacatedAfter time.Duration
	// ActivityTimeout is the silence after which a client sends a ping in turn, in
	// whole seconds. 0 means 30s.
	ActivityTimeout time.Duration

	// Logger logs failures in the background; nil discards them.
	Logger *slog.Logger
}

// Handler serves the sockets and the HTTP API of its apps. It is safe for
// concurrent use.
type Handler struct {
	t     *presence.Tracker
	opts  Options
	log   *slog.Logger
	seats *edge.Seats
	byKey map[string]*hub
	byID  map[string]*hub
	mux   *http.ServeMux

	mu      sync.Mutex
	sockets map[*socket]bool
	closed  bool

	stopped context.Context // done once the handler closes
	stop    context.CancelFunc
	cut     context.Context // done once no wait is allowed any more
	cutOff  context.CancelFunc
	running sync.WaitGroup
	sending sync.WaitGroup // webhooks
}

// New returns a handler that serves apps of a tracker; nil options mean zero
// ones. It returns all faults of the options together. Close it before the HTTP
// server to end its goroutines; the example of package ws shows the order.
func New(t *presence.Tracker, opts *Options) (*Handler, error) {
	o := Options{}
	if opts != nil {
		o = *opts
	}
	faults := edge.NewFaults("pusher")
	faults.Tracker(t)
	edge.AtLeast(faults, "MaxMessage", &o.MaxMessage, 16<<10, 1<<10)
	edge.AtLeast(faults, "MessagesPerSecond", &o.MessagesPerSecond, 20, 0.1)
	edge.AtLeast(faults, "Burst", &o.Burst, 200, 1)
	edge.AtLeast(faults, "ClientEventsPerSecond", &o.ClientEventsPerSecond, 10, 0.1)
	edge.AtLeast(faults, "MaxSubscriptions", &o.MaxSubscriptions, 100, 1)
	edge.AtLeast(faults, "MaxQueued", &o.MaxQueued, 1<<20, 16<<10)
	edge.AtLeast(faults, "MaxSockets", &o.MaxSockets, 100_000, 1)
	edge.AtLeast(faults, "MaxChannels", &o.MaxChannels, 100_000, 1)
	edge.AtLeast(faults, "MaxCached", &o.MaxCached, 10_000, 1)
	edge.AtLeast(faults, "MaxUsers", &o.MaxUsers, 100_000, 1)
	edge.AtLeast(faults, "WriteTimeout", &o.WriteTimeout, 10*time.Second, 1)
	edge.AtLeast(faults, "PongTimeout", &o.PongTimeout, 30*time.Second, 1)
	edge.AtLeast(faults, "VacatedAfter", &o.VacatedAfter, 3*time.Second, 1)
	edge.AtLeast(faults, "ActivityTimeout", &o.ActivityTimeout, 30*time.Second, time.Second)
	edge.AtLeast(faults, "PingInterval", &o.PingInterval, 0, 0)
	o.Audience = cmp.Or(o.Audience, presence.AudienceTeam)
	if !slices.Contains(audiences[:], o.Audience) {
		faults.Add("Audience", "%q is none of %q", o.Audience, audiences[:])
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	h := &Handler{
		t: t, opts: o, log: o.Logger, seats: edge.NewSeats("pusher", "sockets", o.MaxSockets, 0),
		byKey: make(map[string]*hub), byID: make(map[string]*hub), sockets: make(map[*socket]bool),
	}
	if len(o.Apps) == 0 {
		faults.Add("Apps", "at least one is needed")
	}
	for i, app := range o.Apps {
		h.addApp(app, fmt.Sprintf("Apps[%d].", i), faults)
	}
	if err := faults.Err(); err != nil {
		return nil, err
	}
	h.stopped, h.stop = context.WithCancel(context.Background())
	h.cut, h.cutOff = context.WithCancel(context.Background())
	h.mux = h.routes()
	return h, nil
}

// addApp adds an app. at is the place of its options among those of the
// handler.
func (h *Handler) addApp(app App, at string, faults *edge.Faults) {
	b := &hub{
		App: app, h: h, origins: edge.NewOrigins(faults, at+"AllowedOrigins", app.AllowedOrigins),
		channels: make(map[string]*channel), byUser: make(map[string]map[*socket]int), counts: make(map[string]*census),
		vacancy: newVacancy(),
	}
	b.profiles = profiles{h: h, app: &b.App, all: make(map[profileKey]*profile), left: make(map[profileKey]bool)}
	b.outbox = newOutbox(h, &b.App)
	for name, value := range map[string]string{"ID": app.ID, "Key": app.Key, "Secret": app.Secret} {
		if value == "" {
			faults.Add(at+name, "it is needed")
		}
	}
	if h.byID[app.ID] != nil {
		faults.Add(at+"ID", "%q is another app's too", app.ID)
	}
	if h.byKey[app.Key] != nil {
		faults.Add(at+"Key", "%q is another app's too", app.Key)
	}
	if app.MaxConnections < 0 {
		faults.Add(at+"MaxConnections", "%d is negative", app.MaxConnections)
	}
	for i, hook := range app.Webhooks {
		at := fmt.Sprintf("%sWebhooks[%d].", at, i)
		if u, err := url.Parse(hook.URL); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			faults.Add(at+"URL", "it is not one of http or https")
		}
		for _, name := range hook.Events {
			if !slices.Contains(hookEvents, name) {
				faults.Add(at+"Events", "%q is none of %q", name, hookEvents)
			}
		}
	}
	if h.t != nil && h.opts.PingInterval >= h.t.Policy(app.Tenant).Lease {
		faults.Add(at+"Tenant", "the PingInterval of %v is not shorter than its policy's lease of %v", h.opts.PingInterval, h.t.Policy(app.Tenant).Lease)
	}
	h.byID[app.ID], h.byKey[app.Key] = b, b
}

// identify returns how a user takes part.
func (b *hub) identify(u User) (Identity, error) {
	who, err := Identity{}, error(nil)
	switch {
	case b.h.opts.Identify != nil:
		who, err = b.h.opts.Identify(u)
	case strings.HasPrefix(u.ID, "visitor-"):
		who.Actor.Role = presence.RoleVisitor
	default:
		who.Actor.Role = presence.RoleAgent
	}
	subject := presence.Ref{Tenant: b.Tenant, ID: u.ID}
	switch {
	case errors.Is(err, presence.ErrNotAllowed), errors.Is(err, presence.ErrUnavailable):
		return who, err
	case err != nil:
		b.h.log.Debug("pusher: not let in", "app", b.ID, "user", u.ID, "error", err)
		return who, faultf("AuthError", http.StatusUnauthorized, "user %q is not let in", u.ID)
	case who.Actor.Subject != presence.Ref{} && who.Actor.Subject != subject:
		b.h.log.Error("pusher: Identify returned another subject than the user", "app", b.ID, "user", u.ID, "subject", who.Actor.Subject)
		return who, faultf("AuthError", http.StatusInternalServerError, "authentication failed on the server")
	}
	who.Actor.Subject = subject
	return who, nil
}

// ServeHTTP serves sockets below /app/ and the HTTP API below /apps/. Mounted
// elsewhere, it needs [http.StripPrefix].
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if edge.OpensWebSocket(r) {
		h.upgrade(w, r)
		return
	}
	h.mux.ServeHTTP(w, r)
}

// upgrade opens a socket. It refuses a client over the open WebSocket, by an
// error and a close code, since a page sees nothing else.
func (h *Handler) upgrade(w http.ResponseWriter, r *http.Request) {
	if !edge.CanUpgrade("pusher", h.log, w, r) {
		return
	}
	if full := h.seats.Take(presence.Ref{}); full != nil {
		full.Answer(w)
		return
	}
	conn, early, err := edge.Upgrade(w, r, h.opts.WriteTimeout, "")
	if err != nil {
		h.seats.Give(presence.Ref{})
		h.log.Debug("pusher: handshake", "remote", r.RemoteAddr, "error", err)
		return
	}
	in := edge.After(early, conn, edge.FrameLimits{Message: h.opts.MaxMessage, Parts: maxParts})
	b, code, why := h.admit(r)
	if why == "" {
		h.adopt(newSocket(b, conn, in))
		return
	}
	h.log.Debug("pusher: refused", "remote", r.RemoteAddr, "code", code, "reason", why)
	if !h.spawn(func() { h.turnAway(conn, &in, code, why) }) {
		conn.Close()
		h.seats.Give(presence.Ref{})
	}
}

// turnAway closes a refused connection with an error, a code and a reason.
func (h *Handler) turnAway(conn net.Conn, in *edge.Frames, code int, why string) {
	defer h.seats.Give(presence.Ref{})
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(edge.CloseTimeout))
	if _, err := conn.Write(farewell(code, why)); err == nil && in.AwaitClose() == nil {
		edge.HangUp(conn, in, true)
	}
}

// admit returns the app of a request and takes a place for a socket of it.
// Otherwise it returns why it refuses the request.
func (h *Handler) admit(r *http.Request) (b *hub, code int, why string) {
	key, ok := strings.CutPrefix(r.URL.Path, "/app/")
	if !ok || strings.Contains(key, "/") {
		return nil, codeNoPath, "unknown path: sockets open at /app/KEY"
	}
	if b = h.byKey[key]; b == nil {
		return nil, codeNoApp, fmt.Sprintf("unknown key %.40q", key)
	}
	if _, refused := b.origins.Check(r); refused != nil {
		return nil, codeUnauthorized, refused.Text
	}
	given := r.URL.Query().Get("protocol")
	version, err := strconv.Atoi(given)
	switch {
	case given == "":
		return nil, codeNoVersion, "invalid protocol: the version is missing"
	case err != nil:
		return nil, codeBadVersion, "invalid protocol: the version is not a number"
	case version < oldestProtocol || version > newestProtocol:
		return nil, codeVersion, fmt.Sprintf("invalid protocol \"%d\"; allowed: %d to %d", version, oldestProtocol, newestProtocol)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.MaxConnections > 0 && b.sockets >= b.MaxConnections {
		return nil, codeQuota, fmt.Sprintf("limit connections: the app has %d, no more are allowed", b.sockets)
	}
	b.sockets++
	return b, 0, ""
}

// adopt starts a socket in its own goroutine, which gives the large stack of
// the HTTP server's goroutine back.
func (h *Handler) adopt(s *socket) {
	h.mu.Lock()
	closed := h.closed
	if !closed {
		h.sockets[s] = true
		h.running.Go(s.run)
	}
	h.mu.Unlock()
	if closed {
		s.end(presence.CauseDrain, codeReconnect, edge.ShuttingDown)
		edge.HangUp(s.conn, &s.in, false)
		s.hub.remove(s)
	}
}

// remove forgets a socket that has ended.
func (b *hub) remove(s *socket) {
	b.mu.Lock()
	b.sockets--
	b.mu.Unlock()
	b.h.mu.Lock()
	delete(b.h.sockets, s)
	b.h.mu.Unlock()
	b.h.seats.Give(presence.Ref{})
}

// spawn starts a goroutine. It returns false if the handler is closed, which
// ends all sockets.
func (h *Handler) spawn(f func()) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed {
		h.running.Go(f)
	}
	return !h.closed
}

// Sockets returns the number of open sockets.
func (h *Handler) Sockets() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.sockets)
}

// Shutdown ends every socket and opens no more. It sends code 4200, after which
// clients connect again. Their connections leave with the cause drain. It waits
// until every socket has ended and every waiting webhook has been tried. When
// ctx is done, it cuts the others off and returns the cause of ctx's end. It
// returns [presence.ErrClosed] if the handler was closed before.
func (h *Handler) Shutdown(ctx context.Context) error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return fmt.Errorf("pusher: %w handler: it has been closed before", presence.ErrClosed)
	}
	h.closed = true
	var list []*socket
	for s := range h.sockets {
		list = append(list, s)
		h.running.Go(func() { s.end(presence.CauseDrain, codeReconnect, edge.ShuttingDown) })
	}
	h.mu.Unlock()
	h.seats.Close()
	h.stop()
	defer h.cutOff()
	return edge.Await(ctx, func() {
		h.running.Wait()
		for _, b := range h.byID {
			b.closeVacancy()
		}
		h.sending.Wait()
	}, func() {
		h.cutOff()
		for _, s := range list {
			s.conn.Close()
		}
	})
}

// Close is Shutdown with a limit of one second.
func (h *Handler) Close() error { return edge.Close(h.Shutdown) }
