package report

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"golang.org/x/net/html"
)

// The file is whole in itself: no script, nothing from elsewhere, and its
// policy allows nothing but its own style.
func TestSelfContained(t *testing.T) {
	checkPage(t, write(t, head(), sampleLog(60, october.From, october.To)...))
	checkPage(t, write(t, Head{}))
}

func checkPage(t *testing.T, page string) {
	t.Helper()
	style := styleOf.FindStringSubmatch(page)
	if style == nil || style[1] != css {
		t.Fatal("its style is not the one we wrote")
	}
	hash := sha256.Sum256([]byte(style[1]))
	policy := "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(hash[:]) + "'; base-uri 'none'; form-action 'none'"
	policies, ids, labels := 0, map[string]bool{}, []string{}
	for _, n := range nodes(t, page) {
		switch n.Data {
		case "script", "img", "iframe", "object", "embed", "link", "base", "form", "input", "foreignobject", "foreignObject", "use", "image", "a":
			if n.Type == html.ElementNode && (n.Data != "a" || !strings.HasPrefix(attr(n, "href"), "#")) {
				t.Errorf("there is a %s", n.Data)
			}
		case "meta":
			if attr(n, "http-equiv") == "Content-Security-Policy" {
				policies++
				if got := attr(n, "content"); got != policy {
					t.Errorf("policy %q", got)
				}
			}
		}
		for _, a := range n.Attr {
			if strings.HasPrefix(a.Key, "on") || a.Key == "style" || a.Key == "src" {
				t.Errorf("%s has %s", n.Data, a.Key)
			}
			switch a.Key {
			case "id":
				if ids[a.Val] {
					t.Errorf("two have id %s", a.Val)
				}
				ids[a.Val] = true
			case "aria-labelledby":
				labels = append(labels, a.Val)
			case "href":
				labels = append(labels, strings.TrimPrefix(a.Val, "#"))
			}
		}
		if n.Type == html.TextNode && n.Parent.Data != "style" && strings.ContainsFunc(n.Data, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) {
			t.Errorf("%q", n.Data)
		}
	}
	if policies != 1 {
		t.Errorf("%d policies", policies)
	}
	for _, id := range labels {
		if !ids[id] {
			t.Errorf("there is no %q", id)
		}
	}
}

// Every table has heads, and every picture says what it shows.
func TestAccessible(t *testing.T) {
	level, inTable := 0, 0
	for _, n := range nodes(t, write(t, head(), sampleLog(200, october.From, october.To)...)) {
		switch n.Data {
		case "h1", "h2", "h3":
			if next := int(n.Data[1] - '0'); next > level+1 {
				t.Errorf("%s below h%d", n.Data, level)
			} else {
				level = next
			}
		case "th":
			inTable++
			if attr(n, "scope") == "" {
				t.Error("a head of nothing")
			}
		case "svg":
			if n.Type == html.ElementNode && n.Parent.Data != "svg" && attr(n, "aria-hidden") == "" && (attr(n, "role") != "img" || attr(n, "aria-label") == "") {
				t.Error("a picture without words")
			}
		case "td":
			if n.Parent.FirstChild == nil || attr(n, "role") == "cell" && attr(n, "data-label") == "" && attr(n, "class") != "lane" {
				t.Error("a cell without its head, where there is room for one column only")
			}
		}
	}
	if inTable == 0 {
		t.Error("no table")
	}
}

func nodes(t *testing.T, page string) []*html.Node {
	t.Helper()
	doc, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	return slices.Collect(doc.Descendants())
}

func attr(n *html.Node, key string) string {
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

// skeleton is a page without its texts.
func skeleton(t *testing.T, page string) string {
	var b strings.Builder
	for _, n := range nodes(t, page) {
		if n.Type != html.ElementNode {
			if n.Type != html.TextNode {
				fmt.Fprintln(&b, n.Type)
			}
			continue
		}
		fmt.Fprint(&b, n.Namespace, n.Data)
		for _, a := range n.Attr {
			if a.Key == "aria-label" { // the one that may hold somebody's text
				a.Val = ""
			}
			fmt.Fprintf(&b, " %s=%q", a.Key, a.Val)
		}
		fmt.Fprintln(&b)
	}
	return b.String()
}

// Whatever a record says, the page has the elements and attributes that it has
// when the record says x, in the same places.
func FuzzTextIsText(f *testing.F) {
	for _, s := range nasty {
		f.Add(s)
	}
	at := october.From.Add(time.Hour)
	pages := func(t testing.TB, text string) []string {
		h := head()
		h.Origin, h.Root, h.Against, h.Missing, h.Unread = text, text, []string{text}, []string{text}, []string{text}
		part := write(t, h, hostileLog(text, at)...)
		h.Wrong = []string{text}
		return []string{part, write(t, h)}
	}
	var want []string
	f.Fuzz(func(t *testing.T, text string) {
		text = "x" + text // none of our own words, nor nothing
		if want == nil {
			for _, page := range pages(t, "x") {
				want = append(want, skeleton(t, page))
			}
		}
		for i, got := range pages(t, text) {
			checkPage(t, got)
			if s := skeleton(t, got); s != want[i] {
				t.Errorf("%q makes another page:\n%s", text, firstDifference(s, want[i]))
			}
		}
	})
}
