package load

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"math"
	"strings"
)

// The measures of the picture, in pixels.
const (
	svgMargin = 24
	svgLeft   = 84 // of what shows time
	svgPlot   = 900
	svgPanel  = 130
	svgGap    = 62
	svgChar   = 6.6 // width of a character of 12 pixels, about
)

// curve is a figure over time. Where it has none, NaN, the line has a gap.
type curve struct {
	name, colour string
	at           func(*Sample) float64
}

// picture is a drawing under way: y is where its lower end is.
type picture struct {
	body bytes.Buffer
	y    float64
	r    *Result
}

// svg draws rates and latencies over time, and the distribution of latencies.
func (r *Result) svg() []byte {
	d := &picture{r: r}
	d.head()
	measured := func(of func(*Quantiles) float64) func(*Sample) float64 {
		return func(s *Sample) float64 {
			if s.Change.Count == 0 {
				return math.NaN()
			}
			return of(&s.Change)
		}
	}
	d.panel("connected", false, curve{"connected", "#2b6cb0", func(s *Sample) float64 { return float64(s.Connected) }})
	d.panel("connects and claims a second", false,
		curve{"connects", "#7b4fb5", func(s *Sample) float64 { return s.Connects }},
		curve{"claims", "#d04437", func(s *Sample) float64 { return s.Claims }})
	d.panel("messages a second", true,
		curve{"in", "#2e9e5b", func(s *Sample) float64 { return s.In }},
		curve{"out", "#e0a100", func(s *Sample) float64 { return s.Out }})
	d.panel("from a claim to a watcher, ms", true,
		curve{"max", "#d5a6a0", measured(func(q *Quantiles) float64 { return q.Max })},
		curve{"p99", "#d04437", measured(func(q *Quantiles) float64 { return q.P99 })},
		curve{"p90", "#e0a100", measured(func(q *Quantiles) float64 { return q.P90 })},
		curve{"p50", "#2e9e5b", measured(func(q *Quantiles) float64 { return q.P50 })})
	if r.Server != nil {
		d.panel("memory of the server, MB", false, curve{"RSS", "#2b6cb0", func(s *Sample) float64 { return float64(s.RSS) / (1 << 20) }})
	}
	d.distribution()
	d.y += svgMargin
	width := float64(svgLeft + svgPlot + 2*svgMargin)
	var out bytes.Buffer
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%.0f" viewBox="0 0 %.0f %.0f" font-family="system-ui, 'Segoe UI', Helvetica, Arial, sans-serif" font-size="12">`+"\n",
		width, d.y, width, d.y)
	fmt.Fprintf(&out, `<rect width="%.0f" height="%.0f" fill="#ffffff"/>`+"\n", width, d.y)
	out.Write(d.body.Bytes())
	out.WriteString("</svg>\n")
	return out.Bytes()
}

func (d *picture) add(format string, args ...any) { fmt.Fprintf(&d.body, format+"\n", args...) }

func (d *picture) text(x, y float64, attributes, text string) {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(text)) // a buffer takes everything
	d.add(`<text x="%.1f" y="%.1f" %s>%s</text>`, x, y, attributes, b.String())
}

func (d *picture) head() {
	r := d.r
	d.text(svgMargin, 34, `font-size="16" font-weight="600" fill="#1f2733"`, fmt.Sprintf("%d agents and %d visitors for %.0f s", r.Agents, r.Visitors, r.Seconds))
	verdict, colour := "no faults", "#2e9e5b"
	if r.FaultCount > 0 {
		verdict, colour = fmt.Sprintf("%d faults", r.FaultCount), "#d04437"
	}
	d.text(svgLeft+svgPlot, 34, `font-size="16" font-weight="600" text-anchor="end" fill="`+colour+`"`, verdict)
	lines := []string{
		fmt.Sprintf("channel %s at %s, %s", r.Channel, strings.Join(r.URLs, " and "), r.Started.Format("2006-01-02 15:04:05Z")),
		fmt.Sprintf("%s connects/s, until welcome %v", round(r.ConnectsRate), r.Connect),
		fmt.Sprintf("%s claims/s, until answered %v", round(r.ClaimsRate), r.Answer),
		fmt.Sprintf("messages %s/s in, %s/s out; %d lists compared, %d the same; %d resyncs; refusals: %s", round(r.InRate), round(r.OutRate), r.Compared, r.Same, r.Resyncs, listed(r.Refusals)),
		fmt.Sprintf("server: %v", r.Server),
	}
	for i, text := range lines {
		d.text(svgMargin, 56+18*float64(i), `fill="#3b4252"`, shorten(text, 165))
	}
	d.y = 56 + 18*float64(len(lines))
}

func shorten(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}

// scale says where values are, from the lower end of a panel up, and which are
// marked.
type scale struct {
	low, high float64
	log       bool
	marks     []float64
}

func (s scale) at(v float64) float64 {
	if s.log {
		return (math.Log10(max(v, s.low)) - math.Log10(s.low)) / (math.Log10(s.high) - math.Log10(s.low))
	}
	return (v - s.low) / (s.high - s.low)
}

// linear is a scale from 0 to a round number that is not below most.
func linear(most float64) scale {
	step := roundUp(max(most, 1) / 4)
	s := scale{high: step * math.Ceil(max(most, 1)/step)}
	for v := 0.0; v <= s.high+step/2; v += step {
		s.marks = append(s.marks, v)
	}
	return s
}

// powers is a scale of whole powers of ten around what lies between.
func powers(least, most float64) scale {
	from, to := math.Floor(math.Log10(least)), math.Ceil(math.Log10(most))
	if to <= from {
		to = from + 1
	}
	s := scale{low: math.Pow(10, from), high: math.Pow(10, to), log: true}
	for e := from; e <= to; e++ {
		s.marks = append(s.marks, math.Pow(10, e))
	}
	return s
}

// roundUp is the next of 1, 2 and 5 times a power of ten.
func roundUp(v float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, n := range []float64{1, 2, 5} {
		if v <= n*power*1.0000001 {
			return n * power
		}
	}
	return 10 * power
}

// number writes a mark of a scale.
func number(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%gM", v/1e6)
	case v >= 1e4:
		return fmt.Sprintf("%gk", v/1e3)
	default:
		return fmt.Sprintf("%.4g", v)
	}
}

// panel draws figures over time.
func (d *picture) panel(title string, log bool, curves ...curve) {
	least, most := math.Inf(1), 0.0
	for i := range d.r.Samples {
		for _, c := range curves {
			if v := c.at(&d.r.Samples[i]); v > 0 {
				least, most = min(least, v), max(most, v)
			}
		}
	}
	s := linear(most)
	if log && most > 0 {
		s = powers(least, most)
	}
	length := max(d.r.Seconds, 0.001)
	top, bottom := d.frame(title, s, linearTo(length), "s")
	at := func(t float64) float64 { return svgLeft + svgPlot*min(t/length, 1) }
	legend := float64(svgLeft + svgPlot)
	for i := len(curves) - 1; i >= 0; i-- {
		legend -= svgChar*float64(len(curves[i].name)) + 8
		d.text(legend, top-10, `fill="#3b4252"`, curves[i].name)
		legend -= 18
		d.add(`<rect x="%.1f" y="%.1f" width="12" height="3" fill="%s"/>`, legend, top-15.5, curves[i].colour)
		legend -= 8
	}
	for _, c := range curves {
		var path strings.Builder
		letter := "M"
		for i := range d.r.Samples {
			v := c.at(&d.r.Samples[i])
			if math.IsNaN(v) {
				letter = "M"
				continue
			}
			fmt.Fprintf(&path, "%s%.1f %.1f", letter, at(d.r.Samples[i].At), bottom-svgPanel*s.at(v))
			if letter == "M" {
				path.WriteString("h0.1") // with round ends a dot, where no second point follows
			}
			letter = "L"
		}
		if path.Len() > 0 {
			d.add(`<path d="%s" fill="none" stroke="%s" stroke-width="2.5" stroke-linejoin="round" stroke-linecap="round"/>`, path.String(), c.colour)
		}
	}
}

// linearTo is a scale that ends where the values do.
func linearTo(most float64) scale {
	step := roundUp(most / 12)
	s := scale{high: most}
	for v := 0.0; v <= most*1.0001; v += step {
		s.marks = append(s.marks, v)
	}
	return s
}

// frame draws what is around a panel and returns where it begins and ends.
func (d *picture) frame(title string, up, along scale, unit string) (top, bottom float64) {
	top = d.y + svgGap - 26
	bottom = top + svgPanel
	d.text(svgMargin, top-10, `font-weight="600" fill="#1f2733"`, title)
	for _, v := range up.marks {
		y := bottom - svgPanel*up.at(v)
		d.add(`<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#e5e8ee"/>`, svgLeft, y, svgLeft+svgPlot, y)
		d.text(svgLeft-8, y+4, `text-anchor="end" fill="#6b7280"`, number(v))
	}
	for _, v := range along.marks {
		x := svgLeft + svgPlot*along.at(v)
		d.add(`<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#9aa3b2"/>`, x, bottom, x, bottom+4)
		d.text(x, bottom+17, `text-anchor="middle" fill="#6b7280"`, number(v)+" "+unit)
	}
	d.add(`<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#9aa3b2"/>`, svgLeft, bottom, svgLeft+svgPlot, bottom)
	d.y = bottom + 26
	return top, bottom
}

// distribution draws how many changes took how long.
func (d *picture) distribution() {
	const title = "how long changes took to arrive, in % of them"
	q := d.r.Change
	if q.Count == 0 {
		d.frame(title+" (none was seen)", linear(1), linearTo(1), "ms")
		return
	}
	bars := d.r.Changes
	share := func(b Bar) float64 { return 100 * float64(b.Count) / float64(q.Count) }
	var most float64
	for _, b := range bars {
		most = max(most, share(b))
	}
	along := powers(max(bars[0].Above, 0.001), bars[len(bars)-1].UpTo)
	up := linear(most)
	top, bottom := d.frame(title, up, along, "ms")
	for _, b := range bars {
		x, end := svgLeft+svgPlot*along.at(b.Above), svgLeft+svgPlot*along.at(b.UpTo)
		height := svgPanel * up.at(share(b))
		if b.Count > 0 {
			d.add(`<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="#8fb8de"><title>%s to %s: %d</title></rect>`,
				x, bottom-max(height, 1), max(end-x-1, 1), max(height, 1), ms(b.Above), ms(b.UpTo), b.Count)
		}
	}
	row := 0.0
	for _, m := range []struct {
		name string
		v    float64
	}{{"p50", q.P50}, {"p90", q.P90}, {"p99", q.P99}, {"max", q.Max}} {
		x := svgLeft + svgPlot*min(max(along.at(m.v), 0), 1)
		text := m.name + " " + ms(m.v)
		anchor, beside := "start", 4.0
		if x+svgChar*float64(len(text)) > svgLeft+svgPlot {
			anchor, beside = "end", -4.0
		}
		d.add(`<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#d04437" stroke-dasharray="3 3"/>`, x, top, x, bottom)
		d.text(x+beside, top+11+13*row, `text-anchor="`+anchor+`" fill="#d04437"`, text)
		row++
	}
}
