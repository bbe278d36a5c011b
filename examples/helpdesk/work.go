package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/report"
	"github.com/presence-go/presence/routing"
	"github.com/presence-go/presence/schedule"
)

// boss is the actor of the supervisor's page.
var boss = presence.Actor{Subject: presence.ID("boss"), Role: presence.RoleSupervisor}

// chat is a conversation of a customer, as pages show it.
type chat struct {
	ID      string           `json:"id"`
	Channel string           `json:"channel"`
	Client  string           `json:"client"`
	Place   routing.Place    `json:"place"`
	Agent   string           `json:"agent,omitzero"`
	Since   presence.Instant `json:"since"`
}

func shown(w routing.Work) chat {
	c := chat{ID: w.ID, Channel: w.Channel.ID, Client: w.Client, Place: w.Place, Since: w.Since}
	if w.Place == routing.Given {
		c.Agent = w.Agent.ID
	}
	return c
}

// work returns all conversations that are not done: the waiting ones by
// channel, and those of agents.
func (d *desk) work(w http.ResponseWriter, _ *http.Request) {
	list := []chat{}
	for _, channel := range sorted(channels) {
		for _, c := range d.queue.List(presence.ChannelID(channel)) {
			list = append(list, shown(c))
		}
	}
	for _, agent := range sorted(agents) {
		for _, c := range d.queue.Of(presence.ID(agent)) {
			list = append(list, shown(c))
		}
	}
	reply(w, list)
}

// team returns the views of all agents, for a supervisor.
func (d *desk) team(w http.ResponseWriter, r *http.Request) {
	views := make(map[string]presence.View)
	for _, channel := range sorted(channels) {
		list, _, err := d.tracker.ListAs(r.Context(), presence.AudienceSupervisor, presence.ChannelID(channel), nil)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		for _, v := range list {
			views[v.Subject.ID] = v
		}
	}
	list := make([]presence.View, 0, len(views))
	for _, id := range sorted(views) {
		list = append(list, views[id])
	}
	reply(w, map[string]any{"now": presence.At(d.clock.Now()), "members": list})
}

// told sends a piece of work whose place has changed to the pages.
func (d *desk) told(w routing.Work) { d.feed.say("work", shown(w)) }

// doWork carries out every request that changes work. It accepts every name, as
// all of this program does.
func (d *desk) doWork(ctx context.Context, q request) error {
	agent := presence.ID(q.Agent)
	var err error
	switch q.Do {
	case "start": // a customer starts a conversation
		if _, known := channels[q.Channel]; !known {
			return fmt.Errorf("helpdesk: unknown channel %q", q.Channel)
		}
		d.mu.Lock()
		d.chats++
		id := "c" + strconv.Itoa(d.chats)
		d.mu.Unlock()
		_, err = d.queue.Add(ctx, routing.Work{ID: id, Channel: presence.ChannelID(q.Channel), Client: q.From})
	case "message":
		_, err = d.queue.Message(ctx, q.From)
	case "finish":
		_, err = d.queue.Finish(ctx, q.ID)
	case "assign":
		_, err = d.queue.Assign(ctx, boss, q.ID, agent)
	case "challenge":
		err = d.tracker.Apply(ctx, presence.Event{Kind: presence.EventChallenge, Subject: agent})
	case "ack":
		err = d.tracker.Apply(ctx, presence.Event{Kind: presence.EventAck, Subject: agent, ID: q.ID})
	case "request":
		_, err = d.tracker.Request(ctx, presence.Agent(agent), agent, presence.Claim{Status: q.Status, Reason: q.Text})
	case "withdraw":
		_, err = d.tracker.Withdraw(ctx, presence.Agent(agent), agent, "")
	case "accept", "reject":
		_, err = d.tracker.DecideRequest(ctx, boss, agent, "", q.Do == "accept")
	case "change": // a supervisor changes an agent's status
		_, err = d.tracker.SetClaim(ctx, boss, agent, presence.Claim{Status: q.Status})
	case "define": // an admin adds a reason
		err = d.tracker.AddStatus(ctx, root, presence.Status{ID: q.Status, Label: q.Text, Color: "#e0a100", Class: presence.ClassAway, DrainsFirst: true})
		if err == nil {
			d.feed.say("policy", q.Status)
		}
	case "undefine":
		err = d.tracker.RemoveStatus(ctx, root, q.Status, "")
		if err == nil {
			d.feed.say("policy", q.Status)
		}
	default:
		return fmt.Errorf("helpdesk: %q cannot be done; do one of start, message, finish, assign, challenge, ack, request, withdraw, accept, reject, change, define, undefine", q.Do)
	}
	return errors.Join(err, d.queue.Step(ctx))
}

// hours are the opening hours of a channel.
type hours struct {
	text, zone string
	*schedule.Schedule
}

// setHours sets the opening hours of a channel: q.Text in the zone q.Status, or
// always open without a text.
func (d *desk) setHours(ctx context.Context, q request) error {
	if _, known := channels[q.Channel]; !known {
		return fmt.Errorf("helpdesk: unknown channel %q", q.Channel)
	}
	var set presence.Hours
	fresh := hours{text: q.Text, zone: q.Status}
	if q.Text != "" {
		plan, err := schedule.Parse(q.Text)
		if err != nil {
			return err
		}
		plan.Zone = q.Status
		if fresh.Schedule, err = schedule.New(plan, nil); err != nil {
			return err
		}
		set = fresh.Schedule
	}
	d.mu.Lock()
	d.hours[q.Channel] = fresh
	d.mu.Unlock()
	d.feed.say("hours", q.Channel)
	return d.tracker.SetHours(ctx, presence.ChannelID(q.Channel), set)
}

// openNow reports whether a channel takes new conversations.
func (d *desk) openNow(channel presence.Channel, now presence.Instant) (open bool, next presence.Instant) {
	d.mu.Lock()
	h := d.hours[channel.ID].Schedule
	d.mu.Unlock()
	if h == nil {
		return true, 0
	}
	return h.OpenAt(now)
}

// hoursLocked returns the hours for pages.
func (d *desk) hoursLocked() map[string]any {
	shown := make(map[string]any)
	for channel := range channels {
		h := d.hours[channel]
		entry := map[string]any{"text": h.text, "zone": h.zone, "open": true}
		if h.Schedule != nil {
			open, next := h.OpenAt(presence.At(d.clock.Now()))
			entry["open"], entry["next"] = open, next
		}
		shown[channel] = entry
	}
	return shown
}

// reports returns the status log or the workload of all agents in the last
// hours, as JSON or CSV.
func (d *desk) reports(w http.ResponseWriter, r *http.Request) {
	now := presence.At(d.clock.Now())
	hours, err := strconv.Atoi(r.URL.Query().Get("hours"))
	if err != nil || hours < 1 || hours > 24 {
		http.Error(w, "helpdesk: hours is a number from 1 to 24", http.StatusBadRequest)
		return
	}
	q := report.Query{From: now.Add(-time.Duration(hours) * time.Hour), To: now}
	for _, agent := range sorted(agents) {
		q.Subjects = append(q.Subjects, presence.ID(agent))
	}
	ctx := r.Context()
	kind, format := r.PathValue("kind"), r.URL.Query().Get("format")
	switch {
	case format == "csv":
		w.Header().Set("Content-Type", "text/csv; charset=utf-8")
		w.Header().Set("Content-Disposition", "attachment; filename="+kind+".csv")
	case format == "" || format == "json":
		w.Header().Set("Content-Type", "application/json")
	default:
		http.Error(w, "helpdesk: format is json or csv", http.StatusBadRequest)
		return
	}
	switch {
	case kind == "log" && format == "csv":
		err = report.LogCSV(w, report.Log(ctx, d.tracker.Journal, q))
	case kind == "log":
		err = report.WriteJSON(w, report.Log(ctx, d.tracker.Journal, q))
	case kind == "workload" && format == "csv":
		err = report.WorkloadCSV(w, report.Workload(ctx, d.tracker.Journal, q))
	case kind == "workload":
		err = report.WriteJSON(w, report.Workload(ctx, d.tracker.Journal, q))
	default:
		http.Error(w, "helpdesk: unknown report; want log or workload", http.StatusNotFound)
	}
	if err != nil {
		fmt.Fprintf(w, "\nhelpdesk: the report ends here: %v\n", err)
	}
}

func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
