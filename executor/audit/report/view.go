package report

import (
	"cmp"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"cleanroom/executor/audit/list"
	"cleanroom/executor/plain"
)

//go:embed report.css
var css string

//go:embed report.html.tmpl
var page string

var pages = template.Must(template.New("report").Funcs(template.FuncMap{
	"count": count, "plural": plural, "utc": utc, "iso": iso,
}).Parse(page))

// view is what the template shows.
type view struct {
	Head
	CSS           template.CSS // ours, whole: its hash is in the policy
	CSSHash       string
	Title, Lede   string
	Clean         bool
	From, To      time.Time
	Records       int64
	Cards         []card
	Tries         string // how many of how many jobs, where that is not the same
	Unit          string
	Axis          []Tick
	Columns       []Column
	Legend        []legend
	Lanes         []laneView
	MoreLanes     int64
	Step          string
	MostAlive     string
	Bad, Late     newest[useRow]
	Expiring      newest[useRow]
	Given         int64
	Refusals      newest[refusalRow]
	Findings      newest[findingRow]
	Found         []foundRow // the same, by job
	Open          []*wipeRow
	MoreOpen      string
	Finished      newest[*wipeRow]
	Reaps         newest[reapRow]
	Changes, Keys newest[changeRow]
	Notable       newest[*jobRow]
	Others        newest[*jobRow]
	Unreadable    newest[unreadableRow]
}

// card is a number with what it is about.
type card struct {
	To, Name string
	N        int64
	Says     string
	Look     bool // somebody should
}

type legend struct {
	Class, Name string
	N           int64
}

type laneView struct {
	*lane
	Path string
	Says string
	Bars []laneBar
}

// Height of the picture in pixels: the area, and a line for each bar.
func (l laneView) Height() int { return 34 + 14*len(l.Bars) }

type laneBar struct {
	X, Width string // percent
	Y        int
	Class    string

	Label, LabelX, Anchor string
	LabelY, Aside         int
}

// Write makes the file.
func (r *Report) Write(w io.Writer) error {
	if !r.begun {
		r.begin(r.head.Made)
	}
	r.finish()
	hash := sha256.Sum256([]byte(css))
	v := view{
		Head: r.head, CSS: template.CSS(css), CSSHash: "sha256-" + base64.StdEncoding.EncodeToString(hash[:]),
		From: r.head.Period.From, To: r.head.Period.To, Records: r.records, Unit: r.scale.unit, Axis: r.scale.axis(), Columns: r.columns(),
		Step: span(r.scale.to().Sub(r.scale.from()) / steps), Bad: r.bad, Late: r.late, Expiring: r.expiring, Given: r.given,
		Refusals: r.refusals, Findings: r.findings, Found: foundIn(r.findings.Rows()), Finished: r.finished, Reaps: r.reaps, Changes: r.changes, Keys: r.keys,
		Notable: r.notable, Others: r.others, Unreadable: r.unreadable,
	}
	v.Origin, v.Root = plain.Text(v.Origin), plain.Text(v.Root)
	for _, list := range []*[]string{&v.Against, &v.Missing, &v.Wrong} {
		*list = said(*list)
	}
	v.Unread = said(v.Unread[:min(len(v.Unread), maxSaid)])
	if more := v.UnreadTotal - int64(len(v.Unread)); more > 0 && len(v.Unread) > 0 {
		v.Unread = append(v.Unread, "and "+count(more)+" more")
	}
	v.Title = title(r.head.Period)
	v.Open, v.MoreOpen = r.stillOpen()
	v.Cards, v.Tries = r.cards()
	if v.Lede, v.Clean = r.lede(); len(v.Wrong) > 0 {
		v.Lede = "By the log’s own word, which cannot be relied on: " + strings.ToLower(v.Lede[:1]) + v.Lede[1:]
	}
	for i, o := range outcomes {
		v.Legend = append(v.Legend, legend{v.class(i), string(o), r.outcomes[o]})
	}
	v.lanes(r)
	return pages.Execute(w, v)
}

// said is a list of texts for lines of their own.
func said(all []string) (lines []string) {
	for _, text := range some(all) {
		lines = append(lines, plain.Short(plain.Text(text), 600))
	}
	return lines
}

func (view) class(outcome int) string { return "c-" + string(outcomes[outcome]) }

// title is the period, as short as it can be said.
func title(p list.Period) string {
	name := func(t time.Time, layout string) string { return t.UTC().Format(layout) }
	switch {
	case p.From.IsZero() && p.To.IsZero():
		return "The whole log"
	case p.To.IsZero():
		return "From " + name(p.From, "2006-01-02 15:04") + " to now"
	}
	day := 24 * time.Hour
	layout, last := "2006-01-02 15:04", p.To
	if p.From.Truncate(day).Equal(p.From) && p.To.Truncate(day).Equal(p.To) { // zero is truncated, too
		layout, last = time.DateOnly, p.To.Add(-time.Nanosecond)
	}
	switch from, to := name(p.From, layout), name(last, layout); {
	case p.From.IsZero():
		return "Up to " + to
	case from == to:
		return from
	default:
		return from + " to " + to
	}
}

func (r *Report) stillOpen() (rows []*wipeRow, more string) {
	all := newest[*wipeRow]{most: maxRows}
	for _, w := range slices.SortedFunc(maps.Values(r.open), func(a, b *wipeRow) int { return cmp.Compare(a.Index, b.Index) }) {
		all.add(w)
	}
	return all.Rows(), all.More()
}

func (r *Report) cards() (all []card, tries string) {
	slices.Sort(r.tries)
	jobs, again := int64(len(slices.Compact(slices.Clone(r.tries)))), of{name: "tries"}
	if n := int64(len(r.tries)); n > jobs {
		again.n, tries = n, plural(n, "try")+" of "+plural(jobs, "job")
	}
	lost := r.counts[failed]
	return []card{
		{To: "jobs", Name: "jobs", N: jobs, Says: sum(jobs, "one room each", again, of{"worth a look", r.notable.Total})},
		{To: "refusals", Name: "refusals", N: r.refusals.Total, Says: sum(r.refusals.Total, "nothing was refused", sorted(r.refused)...)},
		{To: "secrets", Name: "secrets issued", N: r.given, Says: sum(r.given, "no job was given any", of{"revoked", r.counts[revoked] + r.counts[late]}, of{"end by themselves", r.counts[expires]}, of{"stay good", r.counts[standing]})},
		{To: "lifetimes", Name: "secrets not revoked", N: lost, Look: lost > 0, Says: sum(r.late.Total, "none was revoked late", of{"revoked late", r.late.Total})},
		{To: "findings", Name: "guard findings", N: r.findings.Total, Look: r.found["warned"] > 0, Says: sum(r.findings.Total, "no secret in any file", sorted(r.found)...)},
		{To: "wipes", Name: "unfinished wipes", N: int64(len(r.open)), Look: len(r.open) > 0, Says: sum(r.finished.Total, "none was ended later", of{"ended later", r.finished.Total})},
		{To: "changes", Name: "changes", N: r.changes.Total, Says: sum(r.changes.Total, "nothing was changed", of{"config", r.changed["config"]}, of{"policy", r.changed["policy"]}, of{"store", r.changed["secret"]}, of{"caches", r.changed["cache"]})},
		{To: "keys", Name: "key events", N: r.keys.Total, Says: sum(r.keys.Total, "the log's key is as it was", of{"in the log", r.keys.Total})},
	}, tries
}

// of is a part of a number.
type of struct {
	name string
	n    int64
}

func sorted(counts map[string]int64) (all []of) {
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		all = append(all, of{name, counts[name]})
	}
	return all
}

func sum(n int64, none string, parts ...of) string {
	var says []string
	for _, p := range parts {
		if p.n > 0 {
			says = append(says, count(p.n)+" "+p.name)
		}
	}
	if n == 0 {
		return none
	}
	return few(says)
}

// lede is the report in a sentence.
func (r *Report) lede() (says string, clean bool) {
	var all []string
	if n := r.counts[failed]; n > 0 {
		all = append(all, plural(n, "secret")+" not revoked")
	}
	if n := int64(len(r.open)); n > 0 {
		all = append(all, plural(n, "room")+" not wiped to the end")
	}
	if n := r.found["warned"]; n > 0 {
		all = append(all, plural(n, "finding")+" of the guard in what was stored")
	}
	if n := r.unreadable.Total; n > 0 {
		all = append(all, plural(n, "record")+" that cannot be read")
	}
	if len(all) > 0 {
		return "This needs a look: " + strings.Join(all, "; ") + ".", false
	}
	if r.records == 0 {
		return "Nothing happened in this period.", true
	}
	return "Nothing is left open: every room was wiped, and every secret that can be revoked was.", true
}

// lanes puts those that need a look first, then the most used.
func (v *view) lanes(r *Report) {
	all := slices.SortedFunc(maps.Values(r.lanes), func(a, b *lane) int {
		return cmp.Or(cmp.Compare(b.counts[failed], a.counts[failed]), cmp.Compare(b.counts[late], a.counts[late]),
			cmp.Compare(b.Given, a.Given), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Provider, b.Provider))
	})
	var most int32
	for _, l := range all {
		var n int32
		for _, more := range l.alive {
			n += more
			most = max(most, n)
		}
	}
	v.MostAlive = count(int64(most))
	if v.MoreLanes = int64(max(0, len(all)-maxLanes)); v.MoreLanes > 0 {
		all = all[:maxLanes]
	}
	for _, l := range all {
		lv := laneView{lane: l, Path: area(l.alive, most)}
		lv.Says = fmt.Sprintf("When jobs held %s of %s, over the period; %s are drawn by themselves. The numbers are in this row.", l.Name, l.Provider,
			plural(int64(min(maxBars, len(l.bars[0].list))+min(maxBars, len(l.bars[1].list))), "lifetime"))
		for i, class := range []string{"b-bad", "b-late"} {
			for _, row := range l.bars[i].Rows() {
				lv.Bars = append(lv.Bars, r.bar(row, class, len(lv.Bars)))
			}
		}
		v.Lanes = append(v.Lanes, lv)
	}
}

func (r *Report) bar(row useRow, class string, line int) laneBar {
	from, to := r.scale.share(row.Issued), r.scale.share(firstTime(row.End, r.scale.to()))
	b := laneBar{X: percent(from), Width: percent(max(0, to-from)), Y: 38 + 14*line, Class: class,
		Label: fmt.Sprint("job ", row.Job), LabelX: percent(from), LabelY: 47 + 14*line, Aside: -6, Anchor: "end"}
	if from < .3 { // there is no room before it
		b.Anchor, b.LabelX, b.Aside = "start", percent(min(to, .7)), 8
	}
	return b
}
