package main

import (
	"bytes"
	"cmp"
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
)

// picture is a few diagrams that share what grows to the right. All axes are
// logarithmic.
type picture struct {
	title, under, x string
	diagrams        []diagram
}

type diagram struct {
	title string
	lines []plotted
}

type plotted struct {
	name   string
	points []mark
}

// mark is a point of a line, with the rounds that it is the median of.
type mark struct {
	x, y   float64
	rounds []float64
}

// The measures of a picture, in pixels.
const (
	diagramWidth  = 480
	diagramHeight = 270
	marginLeft    = 62
	marginRight   = 146 // for the names of the lines
	marginTop     = 38
	marginBottom  = 34
	headHeight    = 60
	footHeight    = 34
)

// lineColours can be told apart by the colour-blind too.
var lineColours = []string{"#0072b2", "#d55e00", "#009e73", "#aa4499"}

// scale maps values to pixels by their logarithm.
type scale struct{ low, high, from, to float64 }

func (s scale) at(v float64) float64 {
	return s.from + (s.to-s.from)*math.Log(v/s.low)/math.Log(s.high/s.low)
}

// svg draws the picture, two diagrams beside each other.
func (p *picture) svg() []byte {
	var b bytes.Buffer
	rows := (len(p.diagrams) + 1) / 2
	width, height := 2*diagramWidth, headHeight+rows*diagramHeight+footHeight
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="system-ui,'DejaVu Sans',sans-serif" font-size="13" fill="#333">`+"\n", width, height, width, height)
	fmt.Fprintf(&b, "<title>%s</title>\n", html.EscapeString(p.title))
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", width, height)
	text := func(x, y float64, attributes, s string) {
		fmt.Fprintf(&b, `<text x="%.1f" y="%.1f"%s>%s</text>`+"\n", x, y, attributes, html.EscapeString(s))
	}
	text(16, 28, ` font-size="18" fill="#111"`, p.title)
	text(16, 48, ` fill="#777"`, p.under)
	text(float64(width)/2, float64(height-12), ` text-anchor="middle"`, p.x)
	for i, d := range p.diagrams {
		fmt.Fprintf(&b, `<g transform="translate(%d,%d)">`+"\n", i%2*diagramWidth, headHeight+i/2*diagramHeight)
		d.draw(&b, text)
		b.WriteString("</g>\n")
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

func (d *diagram) draw(b *bytes.Buffer, text func(x, y float64, attributes, s string)) {
	var xs, ys []float64
	for _, l := range d.lines {
		for _, m := range l.points {
			xs, ys = append(xs, m.x), append(append(ys, m.y), positive(m.rounds)...)
		}
	}
	text(marginLeft, 24, ` font-weight="600"`, d.title)
	if len(xs) == 0 {
		text(marginLeft, marginTop+20, ` fill="#777"`, "not measured")
		return
	}
	left, right, top, bottom := float64(marginLeft), float64(diagramWidth-marginRight), float64(marginTop), float64(diagramHeight-marginBottom)
	x := scale{slices.Min(xs), max(slices.Max(xs), slices.Min(xs)*2), left + 6, right}
	low, high := span(slices.Min(ys), slices.Max(ys))
	y := scale{low, high, bottom, top}
	for _, v := range ticks(low, high, 6) {
		fmt.Fprintf(b, `<line x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f" stroke="#e4e4e4"/>`+"\n", left, right, y.at(v), y.at(v))
		text(left-8, y.at(v)+4.5, ` text-anchor="end"`, brief(v))
	}
	marks := ticks(x.low, x.high, 5)
	if x.high <= 10 {
		marks = []float64{1, 2, 4, 8}
	}
	for _, v := range marks {
		if v < x.low || v > x.high*1.001 {
			continue
		}
		fmt.Fprintf(b, `<line x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f" stroke="#ececec"/>`+"\n", x.at(v), x.at(v), top, bottom)
		text(x.at(v), bottom+18, ` text-anchor="middle"`, brief(v))
	}
	fmt.Fprintf(b, `<path d="M%.1f %.1fV%.1fH%.1f" fill="none" stroke="#999"/>`+"\n", left, top, bottom, right)
	var names []float64 // how high the names lie, so that none lies on another
	for i, l := range d.lines {
		if len(l.points) == 0 {
			continue
		}
		colour := lineColours[i%len(lineColours)]
		var path bytes.Buffer
		for j, m := range l.points {
			fmt.Fprintf(&path, "%c%.1f %.1f", "ML"[min(j, 1)], x.at(m.x), y.at(m.y))
			if rounds := positive(m.rounds); len(rounds) > 1 {
				fmt.Fprintf(b, `<line x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f" stroke="%s" stroke-width="5" stroke-opacity="0.25"/>`+"\n",
					x.at(m.x), x.at(m.x), y.at(slices.Min(rounds)), y.at(slices.Max(rounds)), colour)
			}
			fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="3.2" fill="%s"/>`+"\n", x.at(m.x), y.at(m.y), colour)
		}
		fmt.Fprintf(b, `<path d="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", path.String(), colour)
		last := l.points[len(l.points)-1]
		names = append(names, y.at(last.y)+4.5)
	}
	at := spread16(names)
	k := 0
	for i, l := range d.lines {
		if len(l.points) == 0 {
			continue
		}
		last := l.points[len(l.points)-1]
		text(right+10, at[k], fmt.Sprintf(` fill="%s"`, lineColours[i%len(lineColours)]), strings.TrimPrefix(l.name+" "+brief(last.y), " "))
		k++
	}
}

// positive are the values that a logarithm can be taken of.
func positive(list []float64) []float64 {
	return slices.DeleteFunc(slices.Clone(list), func(v float64) bool { return v <= 0 })
}

// spread16 moves what lies closer together than a line of text apart, keeping its
// order.
func spread16(at []float64) []float64 {
	order := make([]int, len(at))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(at[a], at[b]) })
	out := slices.Clone(at)
	for k := 1; k < len(order); k++ {
		out[order[k]] = max(out[order[k]], out[order[k-1]]+16)
	}
	return out
}

// span widens a range to figures that begin with 1, 2 or 5, and to a decade at
// least: what hardly changes is to look like it.
func span(low, high float64) (float64, float64) {
	low, high = step(low, -1), step(high, 1)
	for high/low < 9.99 {
		low = step(low*0.99, -1)
		if high/low < 9.99 {
			high = step(high*1.01, 1)
		}
	}
	return low, high
}

// step is the next figure that begins with 1, 2 or 5, downwards or upwards.
func step(v float64, direction int) float64 {
	base := math.Pow(10, math.Floor(math.Log10(v)+1e-9))
	list := []float64{base, 2 * base, 5 * base, 10 * base}
	if direction < 0 {
		for _, c := range slices.Backward(list) {
			if c <= v*(1+1e-9) {
				return c
			}
		}
		return base
	}
	for _, c := range list {
		if c >= v*(1-1e-9) {
			return c
		}
	}
	return 10 * base
}

// ticks are the figures at which an axis has a line: those that begin with 1, 2
// or 5, or with 1 alone where that would be more than a few.
func ticks(low, high float64, few int) (list []float64) {
	for v := step(low*(1-1e-9), 1); v <= high*(1+1e-9); v = step(v*1.01, 1) {
		list = append(list, v)
	}
	if len(list) > few {
		list = slices.DeleteFunc(list, func(v float64) bool {
			return math.Abs(math.Log10(v)-math.Round(math.Log10(v))) > 1e-6
		})
	}
	return list
}

// brief writes a figure of a picture.
func brief(v float64) string {
	switch {
	case v >= 1e6:
		return short(v/1e6) + "M"
	case v >= 1e3:
		return short(v/1e3) + "k"
	}
	return short(v)
}
