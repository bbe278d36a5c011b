package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// fillIn writes the figures of reports into a document: between the marks of each
// section that a report says something of, and the pictures of curves into the
// directory named like the document.
func fillIn(file string, reports []string) error {
	if len(reports) == 0 {
		return errors.New("bench: -fill needs the reports whose figures are to be filled in")
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	doc := string(text)
	for _, name := range reports {
		rep, err := readReport(name)
		if err != nil {
			return err
		}
		for section, body := range rep.sections() {
			if doc, err = replaceSection(doc, section, rep.where()+body); err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
		}
		dir := strings.TrimSuffix(file, filepath.Ext(file))
		if err := errors.Join(os.MkdirAll(dir, 0o755), rep.draw(dir)); err != nil {
			return err
		}
	}
	return os.WriteFile(file, []byte(doc), 0o644)
}

func readReport(file string) (*report, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	rep := new(report)
	if err := json.Unmarshal(data, rep); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	for _, res := range rep.Results {
		for _, col := range res.Columns {
			res.columns = append(res.columns, column{metric: col.Metric, header: col.Header, ratio: col.Ratio})
		}
	}
	return rep, nil
}

// replaceSection replaces what lies between the marks of a section.
func replaceSection(doc, section, body string) (string, error) {
	begin, end := "<!-- figures: "+section+" -->\n", "<!-- end of figures -->"
	before, rest, found := strings.Cut(doc, begin)
	_, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		return "", fmt.Errorf("there is no place for the figures of %s: %q and then %q", section, strings.TrimSpace(begin), end)
	}
	return before + begin + "\n" + body + "\n" + end + after, nil
}

// where says what the figures of a section were measured on.
func (rep *report) where() string {
	m := rep.Machine
	text := fmt.Sprintf("%s, %d cores, %s, %s.", m.Processor, m.Cores, m.OS, m.Go)
	if rep.Quick {
		text = "**A reduced run, which decides nothing; a full one is to replace it.** " + text + " Load at the end: " + m.Load + "."
	}
	return text + "\n"
}

// sections are what a report has to say, by section.
func (rep *report) sections() map[string]string {
	all := make(map[string]string)
	if len(rep.Goals) > 0 {
		all["goals"] = rep.goalTable()
	}
	for _, res := range rep.Results {
		switch {
		case res.ID == millionID:
			all["million"] = millionTable(res)
		case strings.HasPrefix(res.ID, "curve/"):
			all["curves"] += res.table()
		default:
			all["cases"] += res.table()
		}
	}
	return all
}

func (rep *report) goalTable() string {
	var b strings.Builder
	b.WriteString("\n| goal | | | wanted | measured | |\n|---|---|---|---:|---:|---|\n")
	last := ""
	for _, v := range rep.Goals {
		name := ""
		if v.Goal != last {
			name, last = v.Goal+" "+v.Title, v.Goal
		}
		got := "-"
		if v.Measured != nil {
			got = strings.TrimSpace(short(*v.Measured) + " " + v.Unit)
		}
		verdict := v.Verdict
		if verdict == notReached {
			verdict = "**" + verdict + "**"
		}
		if v.Noisy {
			verdict += ", noisy"
		}
		row(&b, name, string(v.Level), v.What, v.Wanted, got, verdict)
	}
	return b.String()
}

// table is an experiment's table.
func (res *result) table() string {
	var b strings.Builder
	title := strings.ToUpper(res.Title[:1]) + res.Title[1:]
	fmt.Fprintf(&b, "\n%s:\n\n", title)
	head, line := []string{"", ""}, "|---|---|"
	for _, col := range res.columns {
		head, line = append(head, col.header), line+"---:|"
		if col.ratio {
			head, line = append(head, "x ours"), line+"---:|"
		}
	}
	row(&b, append(head, "spread")...)
	b.WriteString(line + "---:|\n")
	for _, c := range res.Cases {
		cells := []string{c.Name, string(c.Role)}
		if c.Missing != "" {
			row(&b, append(cells, c.Missing)...)
			continue
		}
		for _, col := range res.columns {
			text := "-"
			if rounds := c.Rounds[col.metric]; len(rounds) > 0 {
				text = short(median(rounds))
			}
			cells = append(cells, text)
			if col.ratio {
				cells = append(cells, res.againstOurs(c, col.metric))
			}
		}
		spread := short(c.Spread)
		if c.Noisy {
			spread += " noisy"
		}
		if c.Starved {
			spread += " one core only"
		}
		row(&b, append(cells, spread)...)
	}
	return b.String()
}

func millionTable(res *result) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s:\n\n| | |\n|---|---:|\n", res.Title)
	for _, f := range millionFacts {
		if rounds := res.Cases[0].Rounds[f.metric]; len(rounds) > 0 {
			row(&b, f.what, strings.TrimSpace(short(median(rounds))+" "+f.unit))
		}
	}
	return b.String()
}

// row writes a row of a table.
func row(b *strings.Builder, cells ...string) {
	b.WriteString("|")
	for _, cell := range cells {
		b.WriteString(" " + strings.ReplaceAll(cell, "|", `\|`) + " |")
	}
	b.WriteString("\n")
}
