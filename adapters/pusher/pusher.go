// Package pusher lets unmodified Pusher clients, such as pusher-js and Laravel
// Echo, see presence: it speaks version 7 of the Pusher Channels protocol, its
// HTTP API and its webhooks before a [presence.Tracker].
//
//	handler, err := pusher.New(tracker, pusher.Options{Apps: []pusher.App{{ID: "1", Key: key, Secret: secret}}})
//	http.Handle("/app/", handler)  // sockets
//	http.Handle("/apps/", handler) // the HTTP API
//	server.RegisterOnShutdown(func() { handler.Close() })
//
// # What a presence channel is here
//
// The channel presence-sales shows the tracker's channel sales, as the audience
// of whoever subscribes sees it. Its members are those who are there by the
// policy, connected or not, each once however many connections it has, and their
// user_info has id, status, class, label, color, since and whatever else the
// audience may see, beside what the app itself tells of the user. A change is
// told by a further member_added for a member that is there, which clients put
// in the place of what they had.
//
// A user who subscribes, or signs in, is connected as the subject of the user's
// id for as long as the socket is, and a member by the grants it has: the
// adapter decides nothing. An agent without a grant is refused. Users whose id
// begins with visitor- only observe: they see the members and are none.
//
// # Liveness
//
// A socket that was quiet is sent pusher:ping, which clients answer from the
// page's own code. What the page says is a heartbeat; the WebSocket's own pings
// are not, since a browser answers them for a page that is frozen. A client
// reports no input: see [Options.ClientEvent].
//
// # Bounds
//
// Whatever a client can make grow has a bound, and whoever reaches it is told.
// README.md lists the answers, and what of the protocol is not supported.
package pusher

import (
	"bytes"
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

	gobwas "github.com/gobwas/ws"

	"github.com/presence-go/presence"
)

// App is an application: a namespace of channels with its own users.
type App struct {
	// ID names the app in the HTTP API, Key in the address that clients connect
	// to. Secret signs, and no client may know it.
	ID, Key, Secret string
	// Tenant is the tenant of the app's subjects and channels.
	Tenant string
	// AllowedOrigins lists the origins, such as "https://app.example.com", whose
	// pages may open sockets. None means all: a socket may do nothing that has
	// not been signed for it, whatever page opened it. A request without an
	// Origin header does not come from a page and is allowed.
	AllowedOrigins []string
	// MaxConnections bounds the app's open sockets. 0 means no bound of its own.
	MaxConnections int
	// NoClientEvents refuses all client events.
	NoClientEvents bool
	// Webhooks are told what happens on the app's channels.
	Webhooks []Webhook
}

// Identity says how a user takes part.
type Identity struct {
	// Role is the role in which the user watches. Visitors and systems have no
	// presence of their own and see without being members.
	Role presence.Role
	// Audience is whose eyes the user looks through; empty means those of the role.
	Audience presence.Audience
	// Device is the class of device of the user's connection.
	Device string
	// Login says that the user has just entered credentials.
	Login bool
}

func (i Identity) member() bool {
	return i.Role != presence.RoleVisitor && i.Role != presence.RoleSystem
}

// ClientEvent is what a client tells the others on a channel.
type ClientEvent struct {
	// Conn is the connection of the member that says it on a presence channel,
	// and nil on a private one.
	Conn    *presence.Conn
	Channel string
	Name    string          // it begins with client-
	Data    json.RawMessage // as the client sent it
}

// Options configures a [Handler]. Apps are needed; the zero value of every other
// field stands for its default.
type Options struct {
	// Apps are the applications served.
	Apps []App
	// Identify says how a user that an app has signed takes part. An error
	// refuses the user with status 401, one that wraps [presence.ErrNotAllowed]
	// with 403 and its text, one that wraps [presence.ErrUnavailable] with 503.
	// Nil means that users whose id begins with visitor- are
	// visitors and all others agents.
	Identify func(User) (Identity, error)
	// UserInfo returns what is told of a subject beside its presence, a JSON
	// object or nil. It must be quick. Nil means what users say themselves, in
	// the user_info that the app signed, remembered for at most MaxUsers users an
	// app and told to nobody from whom the user hides.
	UserInfo func(subject presence.Ref) json.RawMessage
	// Roster makes members of those too whose class is offline, with that status.
	// Without it, members are those who are there.
	Roster bool
	// Audience is whose eyes the HTTP API and the webhooks look through. Empty
	// means the team's.
	Audience presence.Audience
	// ClientEvent is told each client event before it is sent on. An error refuses
	// it, and its text is told to the client. It is the place to make input or
	// claims of what a front end says; clients themselves report no input.
	ClientEvent func(context.Context, ClientEvent) error

	// MaxMessage is the longest message taken from a client, in bytes. 0 means 16 KiB.
	MaxMessage int
	// MessagesPerSecond and Burst bound how fast a socket's messages are
	// processed; what comes faster is dropped, and the client told. 0 means 20 a
	// second and bursts of 200.
	MessagesPerSecond float64
	Burst             int
	// ClientEventsPerSecond bounds the client events of a socket. 0 means 10.
	ClientEventsPerSecond float64
	// MaxSubscriptions is how many channels a socket may subscribe to. 0 means 100.
	MaxSubscriptions int
	// MaxQueued is how much may wait for a client that is slow to take events, in
	// bytes, before it is lost. What it misses of presence it is told anew. 0
	// means 1 MiB.
	MaxQueued int
	// MaxSockets bounds the open sockets in all. 0 means 100,000.
	MaxSockets int
	// MaxChannels, MaxCached and MaxUsers bound, for each app, the channels in
	// use, those of them that keep an event, and the users whose info is
	// remembered. 0 means 100,000, 10,000 and 100,000.
	MaxChannels int
	MaxCached   int
	MaxUsers    int

	// WriteTimeout is how long a client may take to accept a message before its
	// connection counts as lost. 0 means 10s.
	WriteTimeout time.Duration
	// PingInterval is for how long the page may be quiet before it is asked for a
	// sign of life. It must be shorter than the policy's lease. 0 means the
	// heartbeat of the policy of the app's tenant.
	PingInterval time.Duration
	// PongTimeout is how long it may take to answer. 0 means 30s.
	PongTimeout time.Duration
	// ActivityTimeout is after how much silence a client is to ask for a sign of
	// life in turn, in whole seconds. 0 means 30s.
	ActivityTimeout time.Duration

	// Logger receives what goes wrong in the background; nil discards it.
	Logger *slog.Logger
}

const shuttingDown = "the server is shutting down"

// Handler serves the sockets and the HTTP API of some apps. It is safe for
// concurrent use.
type Handler struct {
	t     *presence.Tracker
	opts  Options
	log   *slog.Logger
	byKey map[string]*hub
	byID  map[string]*hub
	mux   *http.ServeMux

	mu      sync.Mutex
	open    int // sockets and requests about to become one
	sockets map[*socket]bool
	closed  bool

	stopped context.Context // over once the handler closes
	stop    context.CancelFunc
	cut     context.Context // over once nothing may be waited for any more
	cutOff  context.CancelFunc
	running sync.WaitGroup
	sending sync.WaitGroup // webhooks
}

// New returns a handler that serves apps before a tracker. It reports every
// fault of the options together. Close it to end its goroutines.
func New(t *presence.Tracker, opts Options) (*Handler, error) {
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("pusher: %w option "+format, append([]any{presence.ErrInvalid}, args...)...))
	}
	if t == nil {
		faults = append(faults, fmt.Errorf("pusher: %w: a tracker is needed", presence.ErrInvalid))
	}
	atLeast(fault, "MaxMessage", &opts.MaxMessage, 16<<10, 1<<10)
	atLeast(fault, "MessagesPerSecond", &opts.MessagesPerSecond, 20, 0.1)
	atLeast(fault, "Burst", &opts.Burst, 200, 1)
	atLeast(fault, "ClientEventsPerSecond", &opts.ClientEventsPerSecond, 10, 0.1)
	atLeast(fault, "MaxSubscriptions", &opts.MaxSubscriptions, 100, 1)
	atLeast(fault, "MaxQueued", &opts.MaxQueued, 1<<20, 16<<10)
	atLeast(fault, "MaxSockets", &opts.MaxSockets, 100_000, 1)
	atLeast(fault, "MaxChannels", &opts.MaxChannels, 100_000, 1)
	atLeast(fault, "MaxCached", &opts.MaxCached, 10_000, 1)
	atLeast(fault, "MaxUsers", &opts.MaxUsers, 100_000, 1)
	atLeast(fault, "WriteTimeout", &opts.WriteTimeout, 10*time.Second, 1)
	atLeast(fault, "PongTimeout", &opts.PongTimeout, 30*time.Second, 1)
	atLeast(fault, "ActivityTimeout", &opts.ActivityTimeout, 30*time.Second, time.Second)
	atLeast(fault, "PingInterval", &opts.PingInterval, 0, 0)
	opts.Audience = cmp.Or(opts.Audience, presence.AudienceTeam)
	if !slices.Contains(audiences, opts.Audience) {
		fault("Audience: %q is none of %q", opts.Audience, audiences)
	}
	h := &Handler{
		t: t, opts: opts, log: opts.Logger, byKey: make(map[string]*hub), byID: make(map[string]*hub), sockets: make(map[*socket]bool),
	}
	if len(opts.Apps) == 0 {
		fault("Apps: at least one is needed")
	}
	for i, app := range opts.Apps {
		where := fmt.Sprintf("Apps[%d]", i)
		h.addApp(app, func(format string, args ...any) { fault(where+"."+format, args...) })
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	h.stopped, h.stop = context.WithCancel(context.Background())
	h.cut, h.cutOff = context.WithCancel(context.Background())
	h.mux = h.routes()
	return h, nil
}

// atLeast fills in the default of an option, or notes that it is too small.
func atLeast[T cmp.Ordered](fault func(string, ...any), name string, v *T, byDefault, least T) {
	var zero T
	switch {
	case *v == zero:
		*v = byDefault
	case *v < least:
		fault("%s: %v is too small, at least %v is needed", name, *v, least)
	}
}

func (h *Handler) addApp(app App, fault func(string, ...any)) {
	b := &hub{
		App: app, h: h, origins: make(map[string]bool),
		channels: make(map[string]*channel), byUser: make(map[string]map[*socket]int), counts: make(map[string]*census),
	}
	b.profiles = profiles{h: h, app: &b.App, all: make(map[string]*profile)}
	b.outbox = newOutbox(h, &b.App)
	for name, value := range map[string]string{"ID": app.ID, "Key": app.Key, "Secret": app.Secret} {
		if value == "" {
			fault("%s: it is needed", name)
		}
	}
	if h.byID[app.ID] != nil {
		fault("ID: %q is another app's too", app.ID)
	}
	if h.byKey[app.Key] != nil {
		fault("Key: %q is another app's too", app.Key)
	}
	if app.MaxConnections < 0 {
		fault("MaxConnections: %d is negative", app.MaxConnections)
	}
	for _, origin := range app.AllowedOrigins {
		normal, ok := normalOrigin(origin)
		if !ok {
			fault("AllowedOrigins: %q is not scheme://host[:port]", origin)
		}
		b.origins[normal] = true
	}
	for _, w := range app.Webhooks {
		if u, err := url.Parse(w.URL); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			fault("Webhooks: the URL has to be one of http or https")
		}
		for _, name := range w.Events {
			if !slices.Contains(hookEvents, name) {
				fault("Webhooks: there is no event %q; there are %q", name, hookEvents)
			}
		}
	}
	if h.t != nil && h.opts.PingInterval >= h.t.Policy(app.Tenant).Lease {
		fault("Tenant: the PingInterval of %v is not shorter than its policy's lease of %v", h.opts.PingInterval, h.t.Policy(app.Tenant).Lease)
	}
	h.byID[app.ID], h.byKey[app.Key] = b, b
}

// normalOrigin returns an origin as it is compared.
func normalOrigin(origin string) (string, bool) {
	u, err := url.Parse(origin)
	if err != nil || u.Scheme == "" || u.Host == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" {
		return "", false
	}
	return strings.ToLower(u.Scheme + "://" + u.Host), true
}

// identify says how a user takes part.
func (h *Handler) identify(u User) (Identity, error) {
	if h.opts.Identify != nil {
		who, err := h.opts.Identify(u)
		if err != nil && !errors.Is(err, presence.ErrNotAllowed) && !errors.Is(err, presence.ErrUnavailable) {
			h.log.Debug("pusher: not let in", "user", u.ID, "error", err)
			err = faultf("AuthError", http.StatusUnauthorized, "user %q is not let in", u.ID)
		}
		return who, err
	}
	if strings.HasPrefix(u.ID, "visitor-") {
		return Identity{Role: presence.RoleVisitor}, nil
	}
	return Identity{Role: presence.RoleAgent}, nil
}

// ServeHTTP serves sockets below /app/ and the HTTP API below /apps/. Mounted
// elsewhere it needs [http.StripPrefix].
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		h.upgrade(w, r)
		return
	}
	h.mux.ServeHTTP(w, r)
}

// upgrade opens a socket. Why one is not served is told by the code with which
// it is closed, since nothing else reaches a page.
func (h *Handler) upgrade(w http.ResponseWriter, r *http.Request) {
	if status, why := h.reserve(); why != "" {
		http.Error(w, why, status)
		return
	}
	// After an error the response has been written, and the connection is ours
	// where it could be taken over at all.
	conn, rw, _, err := (gobwas.HTTPUpgrader{Timeout: h.opts.WriteTimeout}).Upgrade(r, w)
	if err != nil {
		h.release()
		if conn != nil {
			conn.Close()
		}
		h.log.Debug("pusher: handshake", "remote", r.RemoteAddr, "error", err)
		return
	}
	// What the client sent early sits in a buffer that is not to be kept.
	early, _ := rw.Reader.Peek(rw.Reader.Buffered())
	b, code, why := h.admit(r)
	if why == "" {
		h.adopt(newSocket(b, conn, bytes.Clone(early)))
		return
	}
	h.log.Debug("pusher: refused", "remote", r.RemoteAddr, "code", code, "reason", why)
	if !h.spawn(func() { h.turnAway(conn, code, why) }) {
		conn.Close()
		h.release()
	}
}

// turnAway tells a client why it is not served, and lets it go.
func (h *Handler) turnAway(conn net.Conn, code int, why string) {
	defer h.release()
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(closeTimeout))
	if _, err := conn.Write(closing(code, why)); err == nil {
		var some [512]byte
		for err == nil {
			_, err = conn.Read(some[:])
		}
	}
}

// admit finds the app of a request and makes room for a socket of it, or says
// why there is none.
func (h *Handler) admit(r *http.Request) (b *hub, code int, why string) {
	key, ok := strings.CutPrefix(r.URL.Path, "/app/")
	if !ok || strings.Contains(key, "/") {
		return nil, codeNoPath, "sockets are opened at /app/KEY"
	}
	if b = h.byKey[key]; b == nil {
		return nil, codeNoApp, fmt.Sprintf("there is no app with the key %.40q", key)
	}
	if !b.allowedOrigin(r) {
		return nil, codeUnauthorized, "pages of this origin may not open sockets of the app"
	}
	given := r.URL.Query().Get("protocol")
	version, err := strconv.Atoi(given)
	switch {
	case given == "":
		return nil, codeNoVersion, "the version of the protocol is missing"
	case err != nil:
		return nil, codeBadVersion, "the version of the protocol is not a number"
	case version < oldestProtocol || version > newestProtocol:
		return nil, codeVersion, fmt.Sprintf("version %d of the protocol is not spoken here; %d to %d are", version, oldestProtocol, newestProtocol)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.MaxConnections > 0 && b.sockets >= b.MaxConnections {
		return nil, codeQuota, fmt.Sprintf("the app has %d connections, which is all it may have", b.sockets)
	}
	b.sockets++
	return b, 0, ""
}

// allowedOrigin reports whether the page that makes a request may open sockets.
func (b *hub) allowedOrigin(r *http.Request) bool {
	given := r.Header.Get("Origin")
	if given == "" || len(b.origins) == 0 {
		return true
	}
	origin, ok := normalOrigin(given)
	return ok && b.origins[origin]
}

// reserve makes room for a socket, or says why there is none.
func (h *Handler) reserve() (status int, why string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.closed:
		return http.StatusServiceUnavailable, "pusher: " + shuttingDown
	case h.open >= h.opts.MaxSockets:
		return http.StatusServiceUnavailable, fmt.Sprintf("pusher: %d sockets are open, which is all there may be", h.open)
	}
	h.open++
	return 0, ""
}

func (h *Handler) release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open--
}

// adopt starts a socket in a goroutine of its own, so that the large stack of
// the HTTP server's is given back.
func (h *Handler) adopt(s *socket) {
	h.mu.Lock()
	closed := h.closed
	if !closed {
		h.sockets[s] = true
		h.running.Go(s.run)
	}
	h.mu.Unlock()
	if closed {
		s.end(presence.CauseDrain, codeReconnect, shuttingDown)
		s.conn.Close()
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
	b.h.open--
	b.h.mu.Unlock()
}

// spawn starts a goroutine unless the handler is closed, in which case
// everything ends anyway.
func (h *Handler) spawn(f func()) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed {
		h.running.Go(f)
	}
	return !h.closed
}

// Sockets returns how many sockets are open.
func (h *Handler) Sockets() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.sockets)
}

// Shutdown ends every socket as planned: clients are told to come back, their
// connections are drained, and no socket is opened any more. It waits until all
// have gone and the webhooks that were waiting have been tried; what is still
// there when ctx is done is cut off. It returns the cause of ctx's end in that
// case, and an error wrapping [presence.ErrClosed] if the handler was closed
// before.
func (h *Handler) Shutdown(ctx context.Context) error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return fmt.Errorf("pusher: %w: the handler has been closed before", presence.ErrClosed)
	}
	h.closed = true
	var list []*socket
	for s := range h.sockets {
		list = append(list, s)
		h.running.Go(func() { s.end(presence.CauseDrain, codeReconnect, shuttingDown) })
	}
	h.mu.Unlock()
	h.stop()
	cut := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(cut)
		h.cutOff()
		for _, s := range list {
			s.conn.Close()
		}
	})
	h.running.Wait()
	h.sending.Wait()
	if stop() {
		h.cutOff()
		return nil
	}
	<-cut
	return context.Cause(ctx)
}

// Close is Shutdown with little patience: clients have a second to go.
func (h *Handler) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	err := h.Shutdown(ctx)
	if errors.Is(err, presence.ErrClosed) {
		return err
	}
	return nil
}
