package main

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"github.com/presence-go/presence/internal/svg"
)

// The measures of a picture of a curve, in pixels.
const (
	diagramWidth  = 480
	diagramHeight = 270
	marginLeft    = 62
	marginRight   = 146 // for the names of the lines
	marginTop     = 38
	marginBottom  = 34
	headHeight    = 60
	footHeight    = 34
	lineHeight    = 16
)

// lineColours differ for the colour-blind too.
var lineColours = []string{"#0072b2", "#d55e00", "#009e73", "#aa4499"}

// picture draws the panels of a curve, in two columns. All axes are
// logarithmic.
func (c *curve) picture(under string, res *result) []byte {
	var d svg.Canvas
	width, height := 2.0*diagramWidth, float64(headHeight+(len(c.panels)+1)/2*diagramHeight+footHeight)
	d.Text(16, 28, `font-size="18" fill="`+svg.Ink+`"`, c.title)
	d.Text(16, 48, `fill="`+svg.Faint+`"`, under)
	d.Text(width/2, height-12, `text-anchor="middle" fill="`+svg.Body+`"`, c.x+"; dots are medians, bars reach over all rounds")
	for i, p := range c.panels {
		d.Add(`<g transform="translate(%d,%d)">`, i%2*diagramWidth, headHeight+i/2*diagramHeight)
		p.draw(&d, res)
		d.Add("</g>")
	}
	return d.Document(width, height)
}

// point is a point of a line: the median of the rounds of one case.
type point struct {
	svg.Point
	rounds []float64
}

// points are the cases of a result with the metric.
func (l line) points(res *result) (list []point) {
	for _, c := range res.Cases {
		rounds := slices.DeleteFunc(slices.Clone(c.Rounds[l.metric]), func(v float64) bool { return v <= 0 }) // values without a logarithm
		if m := median(c.Rounds[l.metric]); m > 0 {
			list = append(list, point{svg.Point{X: cmp.Or(c.X, 1), Y: m}, rounds})
		}
	}
	return list
}

func (p *panel) draw(d *svg.Canvas, res *result) {
	d.Text(marginLeft, 24, `font-weight="600" fill="`+svg.Ink+`"`, p.title)
	lines := make([][]point, len(p.lines))
	var xs, ys []float64
	for i, l := range p.lines {
		lines[i] = l.points(res)
		for _, at := range lines[i] {
			xs, ys = append(xs, at.X), append(append(ys, at.Y), at.rounds...)
		}
	}
	if len(xs) == 0 {
		d.Text(marginLeft, marginTop+20, `fill="`+svg.Faint+`"`, "not measured")
		return
	}
	plot := &svg.Plot{
		Left: marginLeft, Top: marginTop, Width: diagramWidth - marginLeft - marginRight, Height: diagramHeight - marginTop - marginBottom,
		X: along(slices.Min(xs), slices.Max(xs)), Y: svg.Rounded(slices.Min(ys), slices.Max(ys)), Grid: true,
	}
	d.Axes(plot)
	var ends []float64 // the heights of the lines' ends
	for i, points := range lines {
		if len(points) > 0 {
			drawLine(d, plot, points, lineColours[i%len(lineColours)])
			_, y := plot.At(points[len(points)-1].X, points[len(points)-1].Y)
			ends = append(ends, y+4.5)
		}
	}
	ends = apart(ends)
	for i, points := range lines {
		if len(points) > 0 {
			name := strings.TrimSpace(p.lines[i].name + " " + svg.Number(points[len(points)-1].Y))
			d.Text(plot.Left+plot.Width+10, ends[0], `fill="`+lineColours[i%len(lineColours)]+`"`, name)
			ends = ends[1:]
		}
	}
}

// along is the axis of the size. It begins a little before the first point.
func along(least, most float64) svg.Scale {
	most = max(most, 2*least)
	marks := []float64{1, 2, 4, 8}
	if most > 10 {
		marks = svg.Marks(least, most, 5)
	}
	return svg.Scale{
		Low: least * math.Pow(least/most, 0.022), High: most, Log: true,
		Marks: slices.DeleteFunc(marks, func(v float64) bool { return v < least || v > most*1.001 }),
	}
}

// drawLine draws a line, with a dot at each point and a bar over its rounds.
func drawLine(d *svg.Canvas, plot *svg.Plot, points []point, colour string) {
	var path []svg.Point
	for _, at := range points {
		path = append(path, at.Point)
		x, y := plot.At(at.X, at.Y)
		if len(at.rounds) > 1 {
			_, low := plot.At(at.X, slices.Min(at.rounds))
			_, high := plot.At(at.X, slices.Max(at.rounds))
			d.Add(`<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s" stroke-width="5" stroke-opacity="0.25"/>`, x, low, x, high, colour)
		}
		d.Add(`<circle cx="%.1f" cy="%.1f" r="3.2" fill="%s"/>`, x, y, colour)
	}
	d.Curve(plot, path, colour)
}

// apart moves texts apart that are closer than a line of text. It keeps their
// order.
func apart(at []float64) []float64 {
	order := make([]int, len(at))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(at[a], at[b]) })
	out := slices.Clone(at)
	for k := 1; k < len(order); k++ {
		out[order[k]] = max(out[order[k]], out[order[k-1]]+lineHeight)
	}
	return out
}
