package scenario

import (
	"fmt"
	"io"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/internal/svg"
)

// The measures of a drawing, in pixels.
const (
	svgPlot   = 900 // width of the part that shows time
	svgMargin = 24
	svgRow    = 34
	svgBar    = 24
	svgTitle  = 44
	svgAxis   = 34
	svgLegend = 30
	svgChar   = 6.9 // width of a character of 12 pixels, about
)

// svgClass is the drawing of a class.
type svgClass struct {
	class      presence.Class
	name       string
	fill, text string
	edge       string
}

// svgClasses are the classes in the order of the legend. The last one is for a
// subject without a view.
var svgClasses = []svgClass{
	{presence.ClassAvailable, "available", "#2e9e5b", "#ffffff", "#ffffff"},
	{presence.ClassBusy, "busy", "#d04437", "#ffffff", "#ffffff"},
	{presence.ClassAway, "away", "#f0b429", "#3d2f00", "#ffffff"},
	{presence.ClassDND, "dnd", "#7b4fb5", "#ffffff", "#ffffff"},
	{presence.ClassOffline, "offline", "#d5d9e0", "#3b4252", "#ffffff"},
	{"", "not shown", "#ffffff", "#6b7280", "#9aa3b2"},
}

// span is a time in which a status held.
type span struct {
	from, to presence.Instant
	presence presence.Presence
	trigger  presence.Cause
}

// spans are the consecutive statuses of a subject, with the causes of each. It
// leaves out statuses that held for no time.
func (s *Subject) spans(end presence.Instant) []span {
	var list []span
	for _, o := range s.History {
		if o.Kind != presence.OutputTransition && o.Kind != presence.OutputUpdated {
			continue
		}
		if n := len(list); n > 0 {
			if last := &list[n-1].presence; last.Status == o.Presence.Status && last.Cause == o.Presence.Cause {
				continue
			}
			list[n-1].to = o.At
		}
		list = append(list, span{o.At, end, o.Presence, o.Trigger})
	}
	return slices.DeleteFunc(list, func(p span) bool { return p.to <= p.from })
}

// WriteSVG draws the results of files, one below the other. Each subject has a
// bar for each of its statuses, in the colour of the class.
func WriteSVG(w io.Writer, results ...*Result) error {
	d := drawing{labels: 60}
	for _, r := range results {
		for i := range r.Subjects {
			d.labels = max(d.labels, svgChar*float64(min(utf8.RuneCountInString(r.Subjects[i].ID), 30))+12)
		}
	}
	for _, r := range results {
		d.timeline(r)
	}
	height := d.y + svgLegend + svgMargin
	d.legend()
	_, err := w.Write(d.Document(3*svgMargin+d.labels+svgPlot, height))
	return err
}

// drawing is a picture in progress: y is its lower end.
type drawing struct {
	svg.Canvas
	labels float64 // width of the names of subjects
	y      float64
}

func (d *drawing) timeline(r *Result) {
	left := svgMargin + d.labels
	end := max(r.End, r.Start.Add(time.Second))
	x := func(i presence.Instant) float64 {
		return left + svgPlot*float64(i.Sub(r.Start))/float64(end.Sub(r.Start))
	}
	d.Text(svgMargin, d.y+28, `font-size="15" font-weight="600" fill="`+svg.Ink+`"`, r.Name)
	d.Text(left+svgPlot, d.y+28, `text-anchor="end" fill="`+svg.Faint+`"`, fmt.Sprintf("%d expectations held", r.Held))
	top := d.y + svgTitle
	bottom := top + svgRow*float64(max(len(r.Subjects), 1))
	for _, t := range ticks(r.Start, end) {
		d.Line(x(t.at), top, x(t.at), bottom+5, svg.Grid)
		d.Text(x(t.at), bottom+20, `text-anchor="middle" fill="`+svg.Faint+`"`, t.label)
	}
	for i := range r.Subjects {
		s := &r.Subjects[i]
		y := top + svgRow*float64(i) + (svgRow-svgBar)/2
		d.Text(left-10, y+16, `text-anchor="end" fill="`+svg.Ink+`"`, svg.Shorten(s.ID, 30))
		for _, p := range s.spans(end) {
			d.bar(x(p.from), x(p.to), y, p)
		}
	}
	d.Line(left, bottom, left+svgPlot, bottom, svg.Axis)
	d.y = bottom + svgAxis
}

func (d *drawing) bar(from, to, y float64, p span) {
	i := slices.IndexFunc(svgClasses, func(c svgClass) bool { return c.class == p.presence.Class })
	c := svgClasses[i] // svgClasses has every class
	width := max(to-from, 1)
	d.Add(`<rect x="%.1f" y="%.1f" width="%.1f" height="%d" rx="%.1f" fill="%s" stroke="%s"><title>%s</title></rect>`,
		from, y, width, svgBar, min(4, width/3), c.fill, c.edge, svg.Escape(p.describe()))
	text := p.presence.Status
	if long := text + " · " + string(p.presence.Cause); svgChar*float64(utf8.RuneCountInString(long))+10 <= width {
		text = long
	}
	if svgChar*float64(utf8.RuneCountInString(text))+6 <= width {
		d.Text(from+width/2, y+16, `text-anchor="middle" pointer-events="none" fill="`+c.text+`"`, text)
	}
}

// describe is the text that a pointer on the bar shows.
func (p *span) describe() string {
	text := fmt.Sprintf("%s from %s to %s, cause %s, trigger %s", p.presence.Status, p.from, p.to, p.presence.Cause, p.trigger)
	if p.presence.Masked != "" {
		text += ", masks " + p.presence.Masked
	}
	return text
}

func (d *drawing) legend() {
	x := svgMargin + d.labels
	for _, c := range svgClasses {
		d.Add(`<rect x="%.1f" y="%.1f" width="12" height="12" rx="3" fill="%s" stroke="#9aa3b2" stroke-width="0.5"/>`, x, d.y+12, c.fill)
		d.Text(x+18, d.y+22, `fill="`+svg.Body+`"`, c.name)
		x += svgChar*float64(len(c.name)) + 40
	}
}

type tick struct {
	at    presence.Instant
	label string
}

// tickSteps are the possible distances of ticks. Larger distances are whole
// weeks.
var tickSteps = []time.Duration{
	time.Millisecond, 10 * time.Millisecond, 100 * time.Millisecond, time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 15 * time.Second, 30 * time.Second,
	time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 30 * time.Minute,
	time.Hour, 2 * time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, day, 2 * day, 7 * day,
}

const day = 24 * time.Hour

// ticks returns at most a dozen round instants.
func ticks(from, to presence.Instant) []tick {
	const most = 12
	length := to.Sub(from)
	step := 7 * day
	if i := slices.IndexFunc(tickSteps, func(step time.Duration) bool { return length/step < most }); i >= 0 {
		step = tickSteps[i]
	} else {
		step *= length/(most*step) + 1
	}
	layout := "15:04"
	switch {
	case step < time.Second:
		layout = "15:04:05.000"
	case step < time.Minute:
		layout = "15:04:05"
	case step >= day:
		layout = "Jan 2"
	}
	var list []tick
	first := from.Time().Truncate(min(step, day))
	for at := presence.At(first); at <= to; at = at.Add(step) {
		if at < from {
			continue
		}
		label := at.Time().Format(layout)
		if label == "00:00" {
			label = at.Time().Format("Jan 2")
		}
		list = append(list, tick{at, label})
	}
	return list
}
