// Package xmpp shows presence to XMPP clients of any server. Each subject is a
// contact of an external component (XEP-0114), which users can add.
//
//	gateway, err := xmpp.New(tracker, &xmpp.Options{
//		Domain: "agents.example.org", Secret: secret, Address: "localhost:5347", Observer: observer,
//	})
//	err = gateway.Run(ctx)
//
// Ann is then ann@agents.example.org. A user who subscribes to her sees what
// the tracker shows the audience of the actor of Options.Observer. The presence
// of XMPP users does not reach the tracker.
//
// # Subscriptions
//
// The user's own server remembers a subscription and asks for the state again
// ("probes") at each login of the user. So the gateway need not store it. Give
// [Options.Subscriptions] so that logged-in users see the state at once after
// this process restarts.
//
// # Connection
//
// [Gateway.Run] connects, and connects again with growing pauses. While it is
// not connected, nothing is queued. After it connects, it sends every observer
// the present state.
package xmpp

import (
	"cmp"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/internal/edge"
)

// Subscription is an XMPP user's watch of a subject.
type Subscription struct {
	Observer string // the bare JID of the user, as "bob@example.org"
	Node     string // of the subject's JID, before the "@"; see [Node]
}

// Options configures a [Gateway]. Domain, Secret, Observer, and Address or Dial
// are needed; the zero value of every other field means its default.
type Options struct {
	// Domain is the component's domain, Secret its secret in the server's
	// configuration.
	Domain string
	Secret string
	// Address is the server's address for components, as "localhost:5347". The
	// protocol has no encryption of its own: give Dial instead if the network
	// is not trusted.
	Address string
	Dial    func(context.Context) (net.Conn, error)

	// Observer returns the actor of a bare JID, such as a visitor. An error
	// that wraps [presence.ErrNotAllowed] refuses the subscription. Any other
	// error leaves it unanswered until the server asks again. Observer may take
	// 5 seconds.
	Observer func(ctx context.Context, jid string) (presence.Actor, error)
	// Subject returns the id of the subject of a node, or "" for none. nil
	// means the node with the escapes of XEP-0106 undone. Servers turn nodes
	// into lower case.
	Subject func(node string) string
	// Show returns how a view looks in XMPP. nil means [Show].
	Show func(presence.View) Shown

	// Subscriptions are the subscriptions before a restart. The gateway calls
	// Changed when one begins or ends, so that the application can store it.
	// Changed must be quick.
	Subscriptions []Subscription
	Changed       func(s Subscription, on bool)

	// MaxSubscriptions limits all subscriptions, MaxPerObserver those of one user.
	// 0 means 10,000 and 256.
	MaxSubscriptions int
	MaxPerObserver   int
	// MaxStanza is the longest stanza read, in bytes. A longer one ends the
	// connection. 0 means 65536.
	MaxStanza int
	// WriteTimeout is how long the server may take to accept a stanza. 0 means 10s.
	WriteTimeout time.Duration
	// Logger logs failures in the background; nil discards them.
	Logger *slog.Logger
}

const (
	observerTimeout = 5 * time.Second
	firstPause      = time.Second // longest pause before the first reconnect
	lastPause       = time.Minute
	maxJID          = 2047 // bytes of a bare JID, the "@" included
)

// resource is the resource of the JIDs that send presence.
const resource = "presence"

// Gateway is the component. It is safe for concurrent use.
type Gateway struct {
	t    *presence.Tracker
	opts Options
	log  *slog.Logger

	mu         sync.Mutex
	subs       map[Subscription]*follower
	byObserver map[string]int
	running    bool
	following  sync.WaitGroup

	out  sync.Mutex // held while writing
	conn net.Conn   // nil without a session; under out
}

// follower sends one user the presence of one subject.
type follower struct {
	Subscription
	watch *presence.Watch

	mu        sync.Mutex
	shown     Shown // as sent, or to be sent on the next connection
	known     bool
	available bool // it may have been sent as that
	ended     bool // by the user, who is sent nothing more
}

// New returns a gateway; nil options mean zero ones. It returns all faults of
// the options together.
func New(t *presence.Tracker, opts *Options) (*Gateway, error) {
	o := Options{}
	if opts != nil {
		o = *opts
	}
	faults := edge.NewFaults("xmpp")
	faults.Tracker(t)
	if o.Domain == "" || strings.ContainsAny(o.Domain, "@/ ") || len(o.Domain) > 1023 {
		faults.Add("Domain", "%q is not the domain of a component", o.Domain)
	}
	if o.Secret == "" {
		faults.Add("Secret", "it is needed")
	}
	if o.Observer == nil {
		faults.Add("Observer", "it is needed, to find who XMPP users are")
	}
	if (o.Address == "") == (o.Dial == nil) {
		faults.Add("Address", "one of Address and Dial is needed, not both")
	}
	edge.AtLeast(faults, "MaxSubscriptions", &o.MaxSubscriptions, 10_000, 1)
	edge.AtLeast(faults, "MaxPerObserver", &o.MaxPerObserver, 256, 1)
	edge.AtLeast(faults, "MaxStanza", &o.MaxStanza, 65536, 4096)
	edge.AtLeast(faults, "WriteTimeout", &o.WriteTimeout, 10*time.Second, 1)
	if err := faults.Err(); err != nil {
		return nil, err
	}
	if o.Subject == nil {
		o.Subject = unescape
	}
	if o.Show == nil {
		o.Show = Show
	}
	if o.Dial == nil {
		o.Dial = func(ctx context.Context) (net.Conn, error) {
			return (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "tcp", o.Address)
		}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Gateway{t: t, opts: o, log: o.Logger, subs: make(map[Subscription]*follower), byObserver: make(map[string]int)}, nil
}

// Run serves the component until ctx is done. It then reports to every observer
// that the subjects are unavailable, and returns the cause of ctx's end. It
// returns [presence.ErrInvalid] if it runs already.
func (g *Gateway) Run(ctx context.Context) error {
	g.mu.Lock()
	running := g.running
	g.running = true
	g.mu.Unlock()
	if running {
		return fmt.Errorf("xmpp: %w call: Run is running already", presence.ErrInvalid)
	}
	followed, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		stop()
		g.following.Wait()
		g.mu.Lock()
		g.running = false
		g.mu.Unlock()
	}()
	for _, s := range g.opts.Subscriptions {
		if f, fresh, err := g.follow(followed, s); err == nil && fresh {
			f.available = true // the process before may have sent it
			g.start(followed, f)
		} else if err != nil {
			g.log.Info("xmpp: subscription from before", "observer", s.Observer, "node", s.Node, "error", err)
			if errors.Is(err, presence.ErrNotAllowed) {
				g.changed(s, false)
			}
		}
	}
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		began := time.Now()
		err := g.session(ctx, followed)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if time.Since(began) > lastPause {
			pause = firstPause
		}
		wait := rand.N(pause) // at random, so that gateways reconnect apart after an outage
		g.log.Warn("xmpp: not connected", "domain", g.opts.Domain, "again", wait, "error", err)
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
	}
}

// stanza is an incoming stanza, as far as it is read.
type stanza struct {
	XMLName xml.Name
	ID      string  `xml:"id,attr"`
	From    string  `xml:"from,attr"`
	To      string  `xml:"to,attr"`
	Type    string  `xml:"type,attr"`
	First   []child `xml:",any"`
}

type child struct{ XMLName xml.Name }

// limited limits the bytes read for one stanza.
type limited struct {
	r    io.Reader
	left int
}

var errStanzaTooLong = errors.New("xmpp: limit stanza: it is too long")

func (l *limited) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, errStanzaTooLong
	}
	n, err := l.r.Read(p[:min(len(p), l.left)])
	l.left -= n
	return n, err
}

// session connects and serves until the connection ends.
func (g *Gateway) session(ctx, followed context.Context) error {
	conn, err := g.opts.Dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	in := &limited{r: conn, left: g.opts.MaxStanza}
	d := xml.NewDecoder(in)
	_ = conn.SetDeadline(time.Now().Add(g.opts.WriteTimeout))
	greeted := context.AfterFunc(ctx, func() { conn.Close() })
	err = g.greet(conn, d)
	if !greeted() || err != nil {
		return cmp.Or(err, context.Cause(ctx))
	}
	_ = conn.SetDeadline(time.Time{})
	g.log.Info("xmpp: connected", "domain", g.opts.Domain)
	g.out.Lock()
	g.conn = conn
	g.out.Unlock()
	over := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(over)
		g.farewell()
		conn.Close()
	})
	defer func() {
		if !stop() {
			<-over
		}
		g.out.Lock()
		g.conn = nil
		g.out.Unlock()
	}()
	g.following.Go(g.tellAll)
	for {
		in.left = g.opts.MaxStanza
		t, err := d.Token()
		if err != nil {
			return err
		}
		switch t := t.(type) {
		case xml.EndElement:
			return errors.New("xmpp: the server closed the stream")
		case xml.StartElement:
			if t.Name.Local == "error" && t.Name.Space == streams {
				return streamError(d, &t)
			}
			var s stanza
			if err := d.DecodeElement(&s, &t); err != nil {
				return err
			}
			g.handle(followed, &s)
		}
	}
}

const streams = "http://etherx.jabber.org/streams"

// greet opens the stream and proves that the gateway knows the secret.
func (g *Gateway) greet(conn net.Conn, d *xml.Decoder) error {
	if _, err := fmt.Fprintf(conn, "<?xml version='1.0'?><stream:stream xmlns='jabber:component:accept' xmlns:stream='%s' to='%s'>", streams, escapeText(g.opts.Domain)); err != nil {
		return err
	}
	header, err := start(d)
	if err != nil {
		return err
	}
	if header.Name.Space != streams || header.Name.Local != "stream" {
		return fmt.Errorf("xmpp: invalid element %q: the server opens with it, not with a stream", header.Name.Local)
	}
	i := slices.IndexFunc(header.Attr, func(a xml.Attr) bool { return a.Name.Local == "id" })
	if i < 0 {
		return errors.New("xmpp: invalid stream: it has no id")
	}
	proof := sha1.Sum([]byte(header.Attr[i].Value + g.opts.Secret))
	if _, err := fmt.Fprintf(conn, "<handshake>%s</handshake>", hex.EncodeToString(proof[:])); err != nil {
		return err
	}
	answer, err := start(d)
	switch {
	case err != nil:
		return err
	case answer.Name.Local == "error":
		return streamError(d, &answer)
	case answer.Name.Local != "handshake":
		return fmt.Errorf("xmpp: invalid element %q: the server answers the handshake with it", answer.Name.Local)
	}
	return d.Skip()
}

// start reads up to the next element and returns it.
func start(d *xml.Decoder) (xml.StartElement, error) {
	for {
		t, err := d.Token()
		if err != nil {
			return xml.StartElement{}, err
		}
		if e, ok := t.(xml.StartElement); ok {
			return e, nil
		}
	}
}

func streamError(d *xml.Decoder, e *xml.StartElement) error {
	var s stanza
	if err := d.DecodeElement(&s, e); err != nil || len(s.First) == 0 {
		return errors.New("xmpp: the server ends the stream with an error")
	}
	return fmt.Errorf("xmpp: the server ends the stream: %s", s.First[0].XMLName.Local)
}

// handle carries out a stanza.
func (g *Gateway) handle(ctx context.Context, s *stanza) {
	node, domain, _ := cutJID(s.To)
	from := bare(s.From)
	if domain != g.opts.Domain || s.From == "" || len(from) > maxJID || len(node) > maxJID {
		return
	}
	switch {
	case s.XMLName.Local == "presence" && node != "":
		g.presence(ctx, s, Subscription{Observer: from, Node: node})
	case s.XMLName.Local == "iq" && (s.Type == "get" || s.Type == "set"):
		g.iq(s, node)
	case s.XMLName.Local == "message" && s.Type != "error" && s.Type != "groupchat":
		g.refuse(s)
	}
}

func (g *Gateway) presence(ctx context.Context, s *stanza, sub Subscription) {
	switch s.Type {
	case "subscribe", "probe":
		f, fresh, err := g.follow(ctx, sub)
		if err != nil {
			g.log.Debug("xmpp: subscription", "observer", sub.Observer, "node", sub.Node, "error", err)
			g.decline(s, sub, err)
			return
		}
		if s.Type == "subscribe" {
			g.answer(sub, "subscribed")
		}
		if fresh {
			g.start(ctx, f)
			return
		}
		g.resend(f, s.From) // unless the pump is about to
	case "unsubscribe":
		g.unsubscribe(sub)
	}
}

// unsubscribe ends a subscription by its user, as a client does that removes a
// contact (RFC 6121, 3.3.3). A client shows a contact as it was last sent. So
// a user who may have seen the subject available is sent that it is unavailable,
// and nothing after it.
func (g *Gateway) unsubscribe(sub Subscription) {
	g.mu.Lock()
	f := g.subs[sub]
	g.mu.Unlock()
	if f == nil || !g.forget(f) {
		g.answer(sub, "unsubscribed")
		return
	}
	g.changed(sub, false)
	_ = f.watch.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	g.answer(sub, "unsubscribed")
	g.retractLocked(f)
	f.ended = true
}

// answer answers a subscription.
func (g *Gateway) answer(s Subscription, with string) {
	g.send(element{XMLName: name("presence"), From: g.jid(s.Node), To: s.Observer, Type: with})
}

// decline refuses a subscription, if that is certain: the user's server then
// forgets it. A probe of an unknown subject is answered with unavailable, since
// the subject may appear later.
func (g *Gateway) decline(s *stanza, sub Subscription, err error) {
	probe := s.Type == "probe"
	switch {
	case errors.Is(err, presence.ErrNotAllowed), !probe && (errors.Is(err, presence.ErrUnknown) || errors.Is(err, presence.ErrInvalid) || errors.Is(err, presence.ErrLimit)):
		g.answer(sub, "unsubscribed")
	case probe:
		g.send(element{XMLName: name("presence"), From: g.jid(sub.Node), To: s.From, Type: "unavailable"})
	}
}

// follow returns the follower of a subscription. A fresh one has to be started.
func (g *Gateway) follow(ctx context.Context, s Subscription) (f *follower, fresh bool, err error) {
	g.mu.Lock()
	f, all, of := g.subs[s], len(g.subs), g.byObserver[s.Observer]
	g.mu.Unlock()
	switch {
	case f != nil:
		return f, false, nil
	case all >= g.opts.MaxSubscriptions:
		return nil, false, fmt.Errorf("xmpp: %w subscriptions: %d are known, no more are allowed", presence.ErrLimit, all)
	case of >= g.opts.MaxPerObserver:
		return nil, false, fmt.Errorf("xmpp: %w subscriptions: %s has %d, no more are allowed", presence.ErrLimit, s.Observer, of)
	}
	id := g.opts.Subject(s.Node)
	if id == "" {
		return nil, false, fmt.Errorf("xmpp: %w node %q", presence.ErrUnknown, s.Node)
	}
	bounded, cancel := context.WithTimeout(ctx, observerTimeout)
	defer cancel()
	actor, err := g.opts.Observer(bounded, s.Observer)
	if err != nil {
		return nil, false, err
	}
	watch, err := g.t.WatchSubject(bounded, actor, presence.Ref{Tenant: actor.Subject.Tenant, ID: id}, presence.WatchOptions{})
	if err != nil {
		return nil, false, err
	}
	f = &follower{Subscription: s, watch: watch}
	g.mu.Lock()
	g.subs[s] = f
	g.byObserver[s.Observer]++
	g.mu.Unlock()
	g.changed(s, true)
	return f, true, nil
}

func (g *Gateway) start(ctx context.Context, f *follower) {
	g.following.Go(func() { g.pump(ctx, f) })
}

func (g *Gateway) changed(s Subscription, on bool) {
	if g.opts.Changed != nil {
		g.opts.Changed(s, on)
	}
}

// forget ends a subscription and reports whether it was known.
func (g *Gateway) forget(f *follower) bool {
	g.mu.Lock()
	there := g.subs[f.Subscription] == f
	if there {
		delete(g.subs, f.Subscription)
		if g.byObserver[f.Observer]--; g.byObserver[f.Observer] == 0 {
			delete(g.byObserver, f.Observer)
		}
	}
	g.mu.Unlock()
	return there
}

// pump sends a user the changes of a subject until access ends.
func (g *Gateway) pump(ctx context.Context, f *follower) {
	defer f.watch.Close()
	for {
		frame, err := f.watch.Next(ctx)
		if err == nil {
			g.show(f, g.look(frame))
			continue
		}
		if ctx.Err() == nil && g.forget(f) {
			g.show(f, Shown{})
			if errors.Is(err, presence.ErrNotAllowed) {
				g.changed(f.Subscription, false)
				g.answer(f.Subscription, "unsubscribed")
			}
		}
		return
	}
}

// look returns how a subject looks after a frame. Without a row it is
// unavailable: it must not be listed or has been erased.
func (g *Gateway) look(frame *presence.Frame) (shown Shown) {
	for i := range frame.Members {
		shown = g.opts.Show(frame.Members[i])
	}
	for i := range frame.Changes {
		if view := frame.Changes[i].View; view != nil {
			shown = g.opts.Show(*view)
		}
	}
	return shown
}

// show sends a user how a subject looks, unless the user knows it.
func (g *Gateway) show(f *follower, shown Shown) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.known && f.shown == shown {
		return
	}
	f.shown, f.known = shown, true
	g.resendLocked(f, f.Observer)
}

// resend sends a user, or one of the user's clients, how a subject looks.
func (g *Gateway) resend(f *follower, to string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.known {
		g.resendLocked(f, to)
	}
}

// resendLocked is resend of what is known. The caller holds the follower.
func (g *Gateway) resendLocked(f *follower, to string) {
	if !f.ended {
		sent := g.send(g.told(f, to))
		f.available = f.shown.Available || f.available && !sent
	}
}

// retractLocked sends a user that a subject is unavailable, unless the user
// knows it. The caller holds the follower.
func (g *Gateway) retractLocked(f *follower) {
	if f.available && !f.ended {
		g.send(element{XMLName: name("presence"), From: g.jid(f.Node) + "/" + resource, To: f.Observer, Type: "unavailable"})
	}
}

// tellAll sends every observer the state after a connect.
func (g *Gateway) tellAll() {
	g.each(func(f *follower) { g.resend(f, f.Observer) })
}

// farewell reports every subject unavailable and ends the stream.
func (g *Gateway) farewell() {
	g.each(func(f *follower) {
		f.mu.Lock()
		defer f.mu.Unlock()
		g.retractLocked(f)
	})
	g.write([]byte("</stream:stream>"))
}

func (g *Gateway) each(do func(*follower)) {
	g.mu.Lock()
	list := make([]*follower, 0, len(g.subs))
	for _, f := range g.subs {
		list = append(list, f)
	}
	g.mu.Unlock()
	for _, f := range list {
		do(f)
	}
}

// Subscriptions returns the number of subscriptions.
func (g *Gateway) Subscriptions() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.subs)
}

// send writes a stanza if the gateway is connected, and reports whether it did.
// The next connection replaces what it cannot write.
func (g *Gateway) send(e element) bool {
	data, err := xml.Marshal(e)
	if err != nil {
		g.log.Warn("xmpp: encoding", "error", err)
		return false
	}
	return g.write(data)
}

func (g *Gateway) write(data []byte) bool {
	g.out.Lock()
	defer g.out.Unlock()
	if g.conn == nil {
		return false
	}
	_ = g.conn.SetWriteDeadline(time.Now().Add(g.opts.WriteTimeout))
	if _, err := g.conn.Write(data); err != nil {
		g.log.Debug("xmpp: writing", "error", err)
		g.conn.Close() // the session notices and connects again
		g.conn = nil
		return false
	}
	return true
}
