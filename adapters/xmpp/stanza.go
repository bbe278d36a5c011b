package xmpp

import (
	"bytes"
	"cmp"
	"encoding/xml"
	"strings"

	"github.com/presence-go/presence"
)

// Shown is how a subject looks to an XMPP user.
type Shown struct {
	Available bool
	Show      string           // "", "chat", "away", "xa" or "dnd"
	Status    string           // text for people
	IdleSince presence.Instant // 0 unless the subject is idle
}

// Show returns how a view looks unless [Options.Show] is set. A subject of
// class available is free for chat if work may be handed to it. A subject of
// class away that is not connected is extended away. An offline, unknown or
// hidden subject is unavailable, with nothing else.
func Show(v presence.View) Shown {
	s := Shown{Available: true, Status: cmp.Or(v.Text, v.Label)}
	switch v.Class {
	case presence.ClassAvailable:
		if v.Routable {
			s.Show = "chat"
		}
	case presence.ClassAway:
		s.Show = "away"
		switch v.Cause {
		case presence.CauseIdle:
			s.IdleSince = v.Since
		case presence.CauseLogout, presence.CauseClosed, presence.CauseLost, presence.CauseNode, presence.CauseDrain, presence.CauseLeft:
			s.Show = "xa"
		}
	case presence.ClassBusy, presence.ClassDND:
		s.Show = "dnd"
	default:
		return Shown{}
	}
	return s
}

// element is an outgoing stanza.
type element struct {
	XMLName xml.Name
	From    string     `xml:"from,attr"`
	To      string     `xml:"to,attr"`
	Type    string     `xml:"type,attr,omitempty"`
	ID      string     `xml:"id,attr,omitempty"`
	Show    string     `xml:"show,omitempty"`
	Status  string     `xml:"status,omitempty"`
	Idle    *idle      `xml:"urn:xmpp:idle:1 idle"`
	Query   *query     `xml:"http://jabber.org/protocol/disco#info query"`
	Error   *stanzaErr `xml:"error"`
}

type idle struct {
	Since string `xml:"since,attr"`
}

type query struct {
	Identity identity  `xml:"identity"`
	Features []feature `xml:"feature"`
}

type identity struct {
	Category string `xml:"category,attr"`
	Type     string `xml:"type,attr"`
	Name     string `xml:"name,attr"`
}

type feature struct {
	Var string `xml:"var,attr"`
}

type stanzaErr struct {
	Type      string   `xml:"type,attr"`
	Condition struct{} `xml:"urn:ietf:params:xml:ns:xmpp-stanzas service-unavailable"`
}

func name(local string) xml.Name { return xml.Name{Local: local} }

// told returns the stanza of how a subject looks. The follower is locked.
func (g *Gateway) told(f *follower, to string) element {
	e := element{XMLName: name("presence"), From: g.jid(f.Node) + "/" + resource, To: to}
	if !f.shown.Available {
		e.Type = "unavailable"
		return e
	}
	e.Show, e.Status = f.shown.Show, f.shown.Status
	if f.shown.IdleSince != 0 {
		e.Idle = &idle{f.shown.IdleSince.String()}
	}
	return e
}

const (
	nsDisco = "http://jabber.org/protocol/disco#info"
	nsPing  = "urn:xmpp:ping"
)

// iq answers a request, as the protocol demands.
func (g *Gateway) iq(s *stanza, node string) {
	asked := xml.Name{}
	if len(s.First) > 0 {
		asked = s.First[0].XMLName
	}
	answer := element{XMLName: name("iq"), From: s.To, To: s.From, Type: "result", ID: s.ID}
	switch {
	case s.Type == "get" && asked.Space == nsPing:
	case s.Type == "get" && asked.Space == nsDisco && asked.Local == "query":
		answer.Query = &query{identity{"gateway", "presence", "Presence"}, []feature{{nsDisco}, {nsPing}}}
		if node != "" {
			answer.Query.Identity = identity{"account", "registered", node}
		}
	default:
		g.refuse(s)
		return
	}
	g.send(answer)
}

// refuse answers that the gateway does not take such a stanza.
func (g *Gateway) refuse(s *stanza) {
	g.send(element{XMLName: name(s.XMLName.Local), From: s.To, To: s.From, Type: "error", ID: s.ID, Error: &stanzaErr{Type: "cancel"}})
}

// jid returns the bare JID of a node.
func (g *Gateway) jid(node string) string { return node + "@" + g.opts.Domain }

// cutJID splits a JID.
func cutJID(jid string) (node, domain, resource string) {
	jid, resource, _ = strings.Cut(jid, "/")
	if before, after, found := strings.Cut(jid, "@"); found {
		return before, after, resource
	}
	return "", jid, resource
}

// bare returns a JID without its resource.
func bare(jid string) string {
	jid, _, _ = strings.Cut(jid, "/")
	return jid
}

// escapes are the sequences of XEP-0106 for characters that a node must not
// have.
var escapes = map[byte]string{
	' ': `\20`, '"': `\22`, '&': `\26`, '\'': `\27`, '/': `\2f`, ':': `\3a`, '<': `\3c`, '>': `\3e`, '@': `\40`, '\\': `\5c`,
}

// Node returns the node of a subject's JID: its id, with characters that a node
// must not have escaped (XEP-0106). Ann Lee of example.org is then
// Ann\20Lee@agents.example.org. Servers turn nodes into lower case, so that an
// id with capitals needs [Options.Subject].
func Node(id string) string {
	var b strings.Builder
	for i := range len(id) {
		e, found := escapes[id[i]]
		switch {
		case !found, id[i] == '\\' && unescaped(id[i:]) == 0:
			b.WriteByte(id[i])
		default:
			b.WriteString(e)
		}
	}
	return b.String()
}

// unescaped returns the character whose escaped form s begins with, or 0.
func unescaped(s string) byte {
	for c, e := range escapes {
		if strings.HasPrefix(s, e) {
			return c
		}
	}
	return 0
}

// unescape returns the id of a node.
func unescape(node string) string {
	var b strings.Builder
	for i := 0; i < len(node); i++ {
		if c := unescaped(node[i:]); c != 0 {
			b.WriteByte(c)
			i += 2
		} else {
			b.WriteByte(node[i])
		}
	}
	return b.String()
}

// escapeText escapes text for XML.
func escapeText(s string) string {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(s)) // a buffer takes everything
	return b.String()
}
