package scenario

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/routing"
)

// doers has the function of each verb. A verb of the grammar without one cannot
// be run.
var doers = map[string]func(*runner, *Line) error{
	"policy": (*runner).changePolicy,
	"role": func(r *runner, l *Line) error {
		r.roles[l.Subject] = presence.Role(l.Args[1].Text)
		return nil
	},

	"connect": func(r *runner, l *Line) error { return r.connect(l, presence.EventConnect) },
	"resume":  func(r *runner, l *Line) error { return r.connect(l, presence.EventConnect) },
	"login":   func(r *runner, l *Line) error { return r.connect(l, presence.EventLogin) },
	"logout": func(r *runner, l *Line) error {
		return r.leave(l, presence.Event{Kind: presence.EventLogout})
	},
	"close": func(r *runner, l *Line) error {
		return r.leave(l, presence.Event{Kind: presence.EventDisconnect, Cause: presence.CauseClosed})
	},
	"lose":  (*runner).silence,
	"sleep": (*runner).silence,
	"wake": func(r *runner, l *Line) error {
		err := r.on(l, presence.Event{Kind: presence.EventHeartbeat, Age: presence.NoAge})
		if err != nil {
			return r.connect(l, presence.EventConnect)
		}
		c := r.client(l)
		c.beats, c.next = true, r.now.Add(r.interval)
		return nil
	},
	"input": func(r *runner, l *Line) error { return r.on(l, presence.Event{Kind: presence.EventInput}) },
	"idle": func(r *runner, l *Line) error {
		c := r.client(l)
		c.reports++
		return r.on(l, presence.Event{Kind: presence.EventHeartbeat, Seq: c.reports, Age: l.Args[1].Duration})
	},
	"focus": func(r *runner, l *Line) error {
		return r.on(l, presence.Event{Kind: presence.EventFocus, Channel: l.Channel})
	},
	"hide": func(r *runner, l *Line) error {
		return r.on(l, presence.Event{Kind: presence.EventVisible, Hidden: true})
	},
	"show": func(r *runner, l *Line) error { return r.on(l, presence.Event{Kind: presence.EventVisible}) },
	"endpoint": func(r *runner, l *Line) error {
		kind := presence.EndpointKind(l.Args[1].Text)
		e := presence.Event{Kind: presence.EventEndpoint, Remove: len(l.Args) > 2, Endpoint: presence.Endpoint{ID: string(kind), Kind: kind}}
		switch kind {
		case presence.EndpointBot:
			e.SubjectKind = presence.KindBot
		case presence.EndpointService:
			e.SubjectKind = presence.KindService
		}
		return r.on(l, e)
	},

	"claim": func(r *runner, l *Line) error {
		e := r.intent(l, presence.EventSetClaim)
		e.Claim.Status = l.Status
		e.Claim.Until, e.Claim.For = presence.At(l.Key("until").Time), l.Key("for").Duration
		e.Claim.Reason, e.Claim.Text = l.Key("reason").Text, l.Key("text").Text
		return r.engine.apply(r.ctx, e)
	},
	"release": func(r *runner, l *Line) error {
		return r.engine.apply(r.ctx, r.intent(l, presence.EventEndClaim))
	},

	"request": func(r *runner, l *Line) error {
		return r.on(l, presence.Event{
			Kind: presence.EventRequest, Actor: r.actor(l.Subject), Claim: presence.Claim{Status: l.Status, Reason: l.Key("reason").Text},
		})
	},
	"withdraw": func(r *runner, l *Line) error {
		return r.on(l, presence.Event{Kind: presence.EventWithdraw, Actor: r.actor(l.Subject)})
	},
	"accept": func(r *runner, l *Line) error {
		return r.on(l, presence.Event{Kind: presence.EventDecide, Actor: r.by(l)})
	},
	"reject": func(r *runner, l *Line) error {
		return r.on(l, presence.Event{Kind: presence.EventDecide, Actor: r.by(l), Reject: true})
	},
	"define":   (*runner).define,
	"undefine": (*runner).define,

	"load": func(r *runner, l *Line) error {
		load := presence.Load{On: l.Key("on").Text, N: l.Args[1].Number}
		if l.Has("capacity") {
			load.Capacity = presence.NewCount(l.Key("capacity").Number)
		}
		if l.Has("pinned") {
			load.Pinned = presence.NewCount(l.Key("pinned").Number)
		}
		return r.on(l, presence.Event{Kind: presence.EventLoad, Load: load})
	},
	"challenge": func(r *runner, l *Line) error {
		return r.on(l, presence.Event{Kind: presence.EventChallenge, Claim: presence.Claim{For: l.Key("for").Duration}})
	},
	"ack": func(r *runner, l *Line) error { return r.on(l, presence.Event{Kind: presence.EventAck}) },
	"work": func(r *runner, l *Line) error {
		w := routing.Work{ID: l.Args[0].Text, Channel: presence.ChannelID(l.Channel), Client: l.Key("client").Text, On: l.Key("on").Text, Weight: l.Key("weight").Number}
		if to := l.Key("to").Text; to != "" {
			w.To = presence.ID(to)
		}
		_, err := r.queue.Add(r.ctx, w)
		return err
	},
	"assign": func(r *runner, l *Line) error {
		_, err := r.queue.Assign(r.ctx, r.by(l), l.Args[0].Text, presence.ID(l.Subject))
		return err
	},
	"begin": func(r *runner, l *Line) error {
		_, err := r.queue.Start(l.Args[0].Text)
		return err
	},
	"decline": func(r *runner, l *Line) error {
		_, err := r.queue.Decline(r.ctx, l.Args[0].Text, presence.ID(l.Subject))
		return err
	},
	"transfer": func(r *runner, l *Line) error {
		_, err := r.queue.Transfer(r.ctx, r.by(l), l.Args[0].Text, presence.ChannelID(l.Channel))
		return err
	},
	"finish": func(r *runner, l *Line) error {
		_, err := r.queue.Finish(r.ctx, l.Args[0].Text)
		return err
	},
	"message": func(r *runner, l *Line) error {
		_, err := r.queue.Message(r.ctx, l.Args[0].Text)
		return err
	},

	"link": func(r *runner, l *Line) error {
		return r.engine.link(r.ctx, presence.ChannelID(l.Channel), presence.ChannelID(l.Args[1].Text))
	},
	"grant": func(r *runner, l *Line) error {
		return r.engine.grant(r.ctx, presence.ChannelID(l.Channel), presence.ID(l.Subject))
	},
	"revoke": func(r *runner, l *Line) error {
		return r.engine.revoke(r.ctx, presence.ChannelID(l.Channel), presence.ID(l.Subject))
	},
	"schedule": func(r *runner, l *Line) error {
		r.opening[l.Channel] = r.hours[l.Number]
		return r.engine.hours(r.ctx, presence.ChannelID(l.Channel), r.hours[l.Number])
	},
	"join": func(r *runner, l *Line) error {
		return r.engine.join(r.ctx, r.actor(l.Subject), presence.ChannelID(l.Channel))
	},
	"watch":   (*runner).watch,
	"unwatch": (*runner).unwatch,

	"disable": func(r *runner, l *Line) error { return r.disable(l, presence.EventDisable) },
	"enable":  func(r *runner, l *Line) error { return r.disable(l, presence.EventEnable) },
	"node":    (*runner).node,
	"suspend": (*runner).suspend,
	"clock":   (*runner).clock,
	"notify": func(r *runner, l *Line) error {
		d, err := r.engine.gate(r.ctx, presence.ID(l.Subject), cmp.Or(l.Key("kind").Text, "push"), l.Key("channel").Text)
		r.decision = &d
		return err
	},
}

// changePolicy puts a policy in force.
func (r *runner) changePolicy(l *Line) error {
	actor := r.actor("system") // the host
	if who := l.Key("by").Text; who != "" {
		actor = r.actor(who)
	}
	return r.put(l, actor, r.policies[l.Number])
}

// define adds or removes a status while running.
func (r *runner) define(l *Line) error {
	p := r.policies[l.Number]
	actor := r.by(l)
	return r.install(l, p, func(presence.Policy) error {
		if l.Verb == "undefine" {
			return r.engine.undefine(r.ctx, actor, l.Status, l.Key("to").Text)
		}
		i := slices.IndexFunc(p.Statuses, func(s presence.Status) bool { return s.ID == l.Status })
		return r.engine.define(r.ctx, actor, p.Statuses[i])
	})
}

func (r *runner) put(l *Line, actor presence.Actor, p presence.Policy) error {
	return r.install(l, p, func(run presence.Policy) error { return r.engine.policy(r.ctx, actor, run) })
}

// install compiles a policy after Mutate and puts it in force in the engine.
func (r *runner) install(l *Line, p presence.Policy, engine func(presence.Policy) error) error {
	run, m, err := r.compile(p)
	if err != nil {
		return fmt.Errorf("scenario: %s:%d: %w", r.file.Name, l.Number, err)
	}
	old := r.machine
	r.machine = m
	if err := engine(run); err != nil {
		r.machine = old
		return err
	}
	r.policy, r.scope, r.interval = p, run.ClaimScope, m.Policy().Heartbeat
	for _, c := range r.clients {
		c.next = min(c.next, r.now.Add(r.interval))
	}
	return nil
}

// silence stops the heartbeats of a connection. The server does not notice
// until the lease ends.
func (r *runner) silence(l *Line) error {
	r.hush(func(c *client) bool { return c.subject == l.Subject && c.conn == l.Conn })
	return nil
}

// intent is the event for a claim or its end. The claim is scoped to a named
// connection unless the policy scopes claims to subjects.
func (r *runner) intent(l *Line, kind presence.EventKind) presence.Event {
	conn := l.Key("conn").Text
	e := presence.Event{Kind: kind, Subject: presence.ID(l.Subject), Actor: r.by(l)}
	e.Claim.Source, e.Claim.Key = presence.Source(l.Key("source").Text), l.Key("key").Text
	if r.scope != "subject" {
		e.Claim.Conn = conn
	}
	if kind == presence.EventSetClaim && e.Actor == presence.Agent(e.Subject) {
		e.Conn = conn // a subject sets its own claim over the connection
	}
	return e
}

// disable switches the presence of one subject or of all off, or on again.
func (r *runner) disable(l *Line, kind presence.EventKind) error {
	if l.Subject != "" {
		return r.on(l, presence.Event{Kind: kind})
	}
	p := r.policy.Clone()
	p.Disabled = kind == presence.EventDisable
	return r.put(l, r.actor("system"), p)
}

// node applies the event of a node. The clients of the node stop their
// heartbeats.
func (r *runner) node(l *Line) error {
	name := l.Args[0].Text
	e := presence.Event{Kind: presence.EventNodeDown, Node: name, Cause: presence.CauseNode}
	switch l.Args[1].Text {
	case "drain":
		e.Cause = presence.CauseDrain
	case "up":
		r.nodes++
		e = presence.Event{Kind: presence.EventNodeUp, Node: name, Incarnation: r.nodes}
	}
	r.hush(func(c *client) bool { return c.node == name })
	return r.engine.apply(r.ctx, e)
}

// suspend lets time pass while the process stands still and receives no
// heartbeats.
func (r *runner) suspend(l *Line) error {
	from := r.now
	r.set(from.Add(l.Args[0].Duration))
	for _, c := range r.clients {
		if missed := r.now.Sub(c.next); c.beats && missed > 0 {
			every := r.interval
			c.next = c.next.Add((missed + every - 1) / every * every)
		}
	}
	return r.engine.apply(r.ctx, presence.Event{Kind: presence.EventSuspended, From: from, To: r.now})
}

// clock steps the wall clock back. It refuses a step forward, which looks like
// a suspension and would make the times of the file and the wall clock differ.
func (r *runner) clock(l *Line) error {
	by := l.Args[0].Duration
	if by > 0 {
		return r.unsupported(l, "a step forward of the clock; want a step back as -5m, or suspend")
	}
	return r.engine.stepWall(r.ctx, r.now, by, slices.Collect(maps.Keys(r.known)))
}
