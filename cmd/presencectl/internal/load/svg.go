package load

import (
	"fmt"
	"math"
	"strings"

	"github.com/presence-go/presence/internal/fleet"
	"github.com/presence-go/presence/internal/svg"
)

// The measures of the picture, in pixels.
const (
	svgMargin = 24
	svgLeft   = 84 // of the part that shows time
	svgPlot   = 900
	svgPanel  = 130
	svgGap    = 62
	svgChar   = 6.6 // width of a character of 12 pixels, about
)

// curve is a figure over time. NaN makes a gap in the line.
type curve struct {
	name, colour string
	at           func(*Sample) float64
}

// picture is a picture in progress: y is its lower end.
type picture struct {
	svg.Canvas
	y float64
	r *Result
}

// svg draws rates and latencies over time, and the distribution of latencies.
func (r *Result) svg() []byte {
	d := &picture{r: r}
	d.head()
	measured := func(of func(*fleet.Quantiles) float64) func(*Sample) float64 {
		return func(s *Sample) float64 {
			if s.Change.Count == 0 {
				return math.NaN()
			}
			return of(&s.Change)
		}
	}
	d.panel("connected", false, curve{"connected", svg.Blue, func(s *Sample) float64 { return float64(s.Connected) }})
	d.panel("connects and claims a second", false,
		curve{"connects", svg.Violet, func(s *Sample) float64 { return s.Connects }},
		curve{"claims", svg.Red, func(s *Sample) float64 { return s.Claims }})
	d.panel("messages a second", true,
		curve{"in", svg.Green, func(s *Sample) float64 { return s.In }},
		curve{"out", svg.Yellow, func(s *Sample) float64 { return s.Out }})
	d.panel("from a claim to a watcher, ms", true,
		curve{"max", "#d5a6a0", measured(func(q *fleet.Quantiles) float64 { return q.Max })},
		curve{"p99", svg.Red, measured(func(q *fleet.Quantiles) float64 { return q.P99 })},
		curve{"p90", svg.Yellow, measured(func(q *fleet.Quantiles) float64 { return q.P90 })},
		curve{"p50", svg.Green, measured(func(q *fleet.Quantiles) float64 { return q.P50 })})
	if r.Server != nil {
		d.panel("memory of the server, MB", false, curve{"RSS", svg.Blue, func(s *Sample) float64 { return float64(s.RSS) / (1 << 20) }})
	}
	d.distribution()
	return d.Document(svgLeft+svgPlot+2*svgMargin, d.y+svgMargin)
}

func (d *picture) head() {
	r := d.r
	d.Text(svgMargin, 34, `font-size="16" font-weight="600" fill="`+svg.Ink+`"`, fmt.Sprintf("%d agents and %d visitors for %.0f s", r.Agents, r.Visitors, r.Seconds))
	verdict, colour := "no faults", svg.Green
	if r.FaultCount > 0 {
		verdict, colour = fmt.Sprintf("%d faults", r.FaultCount), svg.Red
	}
	d.Text(svgLeft+svgPlot, 34, `font-size="16" font-weight="600" text-anchor="end" fill="`+colour+`"`, verdict)
	lines := []string{
		fmt.Sprintf("channel %s at %s, %s", r.Channel, strings.Join(r.URLs, " and "), r.Started.Format("2006-01-02 15:04:05Z")),
		fmt.Sprintf("%s connects/s, until welcome %v", round(r.ConnectsRate), r.Connect),
		fmt.Sprintf("%s claims/s, until answered %v", round(r.ClaimsRate), r.Answer),
		fmt.Sprintf("messages %s/s in, %s/s out; %d lists compared, %d the same; %d resyncs; refusals: %s", round(r.InRate), round(r.OutRate), r.Compared, r.Same, r.Resyncs, listed(r.Refusals)),
		fmt.Sprintf("server: %v", r.Server),
	}
	for i, text := range lines {
		d.Text(svgMargin, 56+18*float64(i), `fill="`+svg.Body+`"`, svg.Shorten(text, 165))
	}
	d.y = 56 + 18*float64(len(lines))
}

// panel draws figures over time.
func (d *picture) panel(title string, log bool, curves ...curve) {
	least, most := math.Inf(1), 0.0
	lines := make([][]svg.Point, len(curves))
	length := max(d.r.Seconds, 0.001)
	for i, c := range curves {
		for j := range d.r.Samples {
			at := svg.Point{X: min(d.r.Samples[j].At, length), Y: c.at(&d.r.Samples[j])}
			if at.Y > 0 {
				least, most = min(least, at.Y), max(most, at.Y)
			}
			lines[i] = append(lines[i], at)
		}
	}
	scale := svg.Linear(most)
	if log && most > 0 {
		scale = svg.Powers(least, most)
	}
	p := d.axes(title, scale, svg.LinearTo(length), " s")
	legend := float64(svgLeft + svgPlot)
	for i := len(curves) - 1; i >= 0; i-- {
		legend -= svgChar*float64(len(curves[i].name)) + 8
		d.Text(legend, p.Top-10, `fill="`+svg.Body+`"`, curves[i].name)
		legend -= 18
		d.Add(`<rect x="%.1f" y="%.1f" width="12" height="3" fill="%s"/>`, legend, p.Top-15.5, curves[i].colour)
		legend -= 8
	}
	for i, c := range curves {
		d.Curve(p, lines[i], c.colour)
	}
}

// axes draws what is around a panel.
func (d *picture) axes(title string, up, along svg.Scale, unit string) *svg.Plot {
	p := &svg.Plot{Left: svgLeft, Top: d.y + svgGap - 26, Width: svgPlot, Height: svgPanel, X: along, Y: up, Unit: unit}
	d.Text(svgMargin, p.Top-10, `font-weight="600" fill="`+svg.Ink+`"`, title)
	d.Axes(p)
	d.y = p.Bottom() + 26
	return p
}

// distribution draws the distribution of the latencies of changes.
func (d *picture) distribution() {
	const title = "how long changes took to arrive, in % of them"
	q := d.r.Change
	if q.Count == 0 {
		d.axes(title+" (none was seen)", svg.Linear(1), svg.LinearTo(1), " ms")
		return
	}
	bars := d.r.Changes
	share := func(b fleet.Bar) float64 { return 100 * float64(b.Count) / float64(q.Count) }
	var most float64
	for _, b := range bars {
		most = max(most, share(b))
	}
	p := d.axes(title, svg.Linear(most), svg.Powers(max(bars[0].Above, 0.001), bars[len(bars)-1].UpTo), " ms")
	for _, b := range bars {
		x, top := p.At(b.Above, share(b))
		end, bottom := p.At(b.UpTo, 0)
		height := max(bottom-top, 1)
		if b.Count > 0 {
			d.Add(`<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="#8fb8de"><title>%s to %s: %d</title></rect>`,
				x, bottom-height, max(end-x-1, 1), height, fleet.Millis(b.Above), fleet.Millis(b.UpTo), b.Count)
		}
	}
	d.marks(p)
}

// marks draws the quantiles.
func (d *picture) marks(p *svg.Plot) {
	q := d.r.Change
	for row, m := range []struct {
		name string
		v    float64
	}{{"p50", q.P50}, {"p90", q.P90}, {"p99", q.P99}, {"max", q.Max}} {
		x, _ := p.At(min(m.v, p.X.High), 0)
		text := m.name + " " + fleet.Millis(m.v)
		anchor, beside := "start", 4.0
		if x+svgChar*float64(len(text)) > svgLeft+svgPlot {
			anchor, beside = "end", -4.0
		}
		d.Add(`<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s" stroke-dasharray="3 3"/>`, x, p.Top, x, p.Bottom(), svg.Red)
		d.Text(x+beside, p.Top+11+13*float64(row), `text-anchor="`+anchor+`" fill="`+svg.Red+`"`, text)
	}
}
