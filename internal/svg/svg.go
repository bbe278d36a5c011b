// Package svg writes the pictures of this project's tools.
package svg

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"math"
	"strings"
)

// The colours of all pictures.
const (
	Ink    = "#1f2733" // titles
	Body   = "#3b4252"
	Faint  = "#6b7280" // marks of axes
	Axis   = "#9aa3b2"
	Grid   = "#e5e8ee"
	Red    = "#d04437"
	Green  = "#2e9e5b"
	Yellow = "#e0a100"
	Blue   = "#2b6cb0"
	Violet = "#7b4fb5"
)

// Canvas collects the elements of one picture. Its zero value is empty. All
// measures are in pixels.
type Canvas struct{ body bytes.Buffer }

// Add adds one line of SVG.
func (c *Canvas) Add(format string, args ...any) { fmt.Fprintf(&c.body, format+"\n", args...) }

// Text adds a text at its baseline. The attributes set its style.
func (c *Canvas) Text(x, y float64, attributes, text string) {
	c.Add(`<text x="%.1f" y="%.1f" %s>%s</text>`, x, y, attributes, Escape(text))
}

// Line adds a line.
func (c *Canvas) Line(x1, y1, x2, y2 float64, colour string) {
	c.Add(`<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s"/>`, x1, y1, x2, y2, colour)
}

// Document returns the picture with a white background.
func (c *Canvas) Document(width, height float64) []byte {
	var out bytes.Buffer
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%.0f" viewBox="0 0 %.0f %.0f" font-family="system-ui, 'Segoe UI', Helvetica, Arial, sans-serif" font-size="12">`+"\n",
		width, height, width, height)
	fmt.Fprintf(&out, `<rect width="%.0f" height="%.0f" fill="#ffffff"/>`+"\n", width, height)
	out.Write(c.body.Bytes())
	out.WriteString("</svg>\n")
	return out.Bytes()
}

// Escape returns a text as XML.
func Escape(s string) string {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(s)) // a buffer takes everything
	return b.String()
}

// Shorten cuts a text to a number of characters and ends it with an ellipsis if
// it is longer.
func Shorten(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}

// Plot is the part of a picture in which values are drawn.
type Plot struct {
	Left, Top, Width, Height float64
	X, Y                     Scale
	Unit                     string // follows the numbers of X
	Grid                     bool   // lines go up from the marks of X
}

// At returns where a point lies.
func (p *Plot) At(x, y float64) (float64, float64) {
	return p.Left + p.Width*p.X.At(x), p.Bottom() - p.Height*p.Y.At(y)
}

// Bottom is where the axis of X lies.
func (p *Plot) Bottom() float64 { return p.Top + p.Height }

// Axes adds the axis of X, the marks of both axes and their numbers.
func (c *Canvas) Axes(p *Plot) {
	bottom := p.Bottom()
	for _, v := range p.Y.Marks {
		y := bottom - p.Height*p.Y.At(v)
		c.Line(p.Left, y, p.Left+p.Width, y, Grid)
		c.Text(p.Left-8, y+4, `text-anchor="end" fill="`+Faint+`"`, Number(v))
	}
	for _, v := range p.X.Marks {
		x := p.Left + p.Width*p.X.At(v)
		if p.Grid {
			c.Line(x, p.Top, x, bottom, Grid)
		}
		c.Line(x, bottom, x, bottom+4, Axis)
		c.Text(x, bottom+17, `text-anchor="middle" fill="`+Faint+`"`, Number(v)+p.Unit)
	}
	c.Line(p.Left, bottom, p.Left+p.Width, bottom, Axis)
}

// Point is a point of a curve.
type Point struct{ X, Y float64 }

// Curve adds a line through points in a plot. The line has a gap where Y is not a
// number.
func (c *Canvas) Curve(p *Plot, points []Point, colour string) {
	var path strings.Builder
	letter := "M"
	for _, at := range points {
		if math.IsNaN(at.Y) {
			letter = "M"
			continue
		}
		x, y := p.At(at.X, at.Y)
		fmt.Fprintf(&path, "%s%.1f %.1f", letter, x, y)
		if letter == "M" {
			path.WriteString("h0.1") // a dot, with round ends, for a point without a second one
		}
		letter = "L"
	}
	if path.Len() > 0 {
		c.Add(`<path d="%s" fill="none" stroke="%s" stroke-width="2.5" stroke-linejoin="round" stroke-linecap="round"/>`, path.String(), colour)
	}
}
