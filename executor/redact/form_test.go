package redact

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"html"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"text/template"
)

// nasty has something for everyone to escape.
const nasty = "p@ss'w\"rd/\\<&>\xc3\xa9+1 ~$x`!=\tend\xe2\x82\xac\xf0\x9f\x98\x80"

// How programs write it: what Go's and this machine's Python and shells gave,
// what others' documents say.
var written = []struct{ by, text, shown string }{
	{"python repr", "'p@ss\\'w\"rd/\\\\<&>\xc3\xa9+1 ~$x`!=\\tend\xe2\x82\xac\xf0\x9f\x98\x80'", "'#'"},
	{"python ascii", "'p@ss\\'w\"rd/\\\\<&>\\xe9+1 ~$x`!=\\tend\\u20ac\\U0001f600'", "'#'"},
	{"python bytes repr", "b'p@ss\\'w\"rd/\\\\<&>\\xc3\\xa9+1 ~$x`!=\\tend\\xe2\\x82\\xac\\xf0\\x9f\\x98\\x80'", "b'#'"},
	{"json.dumps", "\"p@ss'w\\\"rd/\\\\<&>\\u00e9+1 ~$x`!=\\tend\\u20ac\\ud83d\\ude00\"", "\"#\""},
	{"json.dumps ensure_ascii=False", "\"p@ss'w\\\"rd/\\\\<&>\xc3\xa9+1 ~$x`!=\\tend\xe2\x82\xac\xf0\x9f\x98\x80\"", "\"#\""},
	{"json in json", "\"\\\"p@ss'w\\\\\\\"rd/\\\\\\\\<&>\xc3\xa9+1 ~$x`!=\\\\tend\xe2\x82\xac\xf0\x9f\x98\x80\\\"\"", "\"\\\"#\\\"\""},
	{"quote", "p%40ss%27w%22rd/%5C%3C%26%3E%C3%A9%2B1%20~%24x%60%21%3D%09end%E2%82%AC%F0%9F%98%80", "#"},
	{"quote safe=\"\"", "p%40ss%27w%22rd%2F%5C%3C%26%3E%C3%A9%2B1%20~%24x%60%21%3D%09end%E2%82%AC%F0%9F%98%80", "#"},
	{"quote_plus", "p%40ss%27w%22rd%2F%5C%3C%26%3E%C3%A9%2B1+~%24x%60%21%3D%09end%E2%82%AC%F0%9F%98%80", "#"},
	{"html.escape", "p@ss&#x27;w&quot;rd/\\&lt;&amp;&gt;\xc3\xa9+1 ~$x`!=\tend\xe2\x82\xac\xf0\x9f\x98\x80", "#"},
	{"html.escape quote=False", "p@ss'w\"rd/\\&lt;&amp;&gt;\xc3\xa9+1 ~$x`!=\tend\xe2\x82\xac\xf0\x9f\x98\x80", "#"},
	{"shlex", "'p@ss'\"'\"'w\"rd/\\<&>\xc3\xa9+1 ~$x`!=\tend\xe2\x82\xac\xf0\x9f\x98\x80'", "'#'"},
	{"bash %q", "$'p@ss\\'w\"rd/\\\\<&>\xc3\xa9+1 ~$x`!=\\tend\xe2\x82\xac\xf0\x9f\x98\x80'", "$'#'"},
	{"bash %q in C", "$'p@ss\\'w\"rd/\\\\<&>\\303\\251+1 ~$x`!=\\tend\\342\\202\\254\\360\\237\\230\\200'", "$'#'"},
	{"bash @Q", "$'p@ss\\'w\"rd/\\\\<&>\xc3\xa9+1 ~$x`!=\\tend\xe2\x82\xac\xf0\x9f\x98\x80'", "$'#'"},
	{"bash declare -p", "declare -x V=$'p@ss\\'w\"rd/\\\\<&>\xc3\xa9+1 ~$x`!=\\tend\xe2\x82\xac\xf0\x9f\x98\x80'\n", "declare -x V=$'#'\n"},
	{"bash set -x", "+ : 'p@ss'\\''w\"rd/\\<&>\xc3\xa9+1 ~$x`!=\tend\xe2\x82\xac\xf0\x9f\x98\x80'\n", "+ : '#'\n"},
	{"base64", "cEBzcyd3InJkL1w8Jj7DqSsxIH4keGAhPQllbmTigqzwn5iA\n", "#\n"},
	{"base64 with its line end", "cEBzcyd3InJkL1w8Jj7DqSsxIH4keGAhPQllbmTigqzwn5iACg==\n", "#Cg==\n"},
	{"base64 behind a name", "dXNlcjpwQHNzJ3cicmQvXDwmPsOpKzEgfiR4YCE9CWVuZOKCrPCfmIA=\n", "dXNlcjp#A=\n"},
	{"base64 behind a name -w 9", "bWU6cEBzc\nyd3InJkL1\nw8Jj7DqSs\nxIH4keGAh\nPQllbmTig\nqzwn5iA\n", "bWU6#\n"},
	{"base64 twice", "Y0VCemN5ZDNJbkprTDF3OEpqN0RxU3N4SUg0a2VHQWhQUWxsYm1UaWdxenduNWlBCg==\n", "#Cg==\n"},
	{"xxd -p -c 7", "70407373277722\n72642f5c3c263e\nc3a92b31207e24\n7860213d09656e\n64e282acf09f98\n80\n", "#\n"},
	{"od", " 70 40 73 73 27 77 22 72 64 2f 5c 3c 26 3e c3 a9\n 2b 31 20 7e 24 78 60 21 3d 09 65 6e 64 e2 82 ac\n f0 9f 98 80\n", " #\n"},
	{"rev", "\xf0\x9f\x98\x80\xe2\x82\xacdne\t=!`x$~ 1+\xc3\xa9>&<\\/dr\"w'ss@p", "#"},
	{"sed letters", "p @ s s ' w \" r d / \\ < & > \xc3\xa9 + 1   ~ $ x ` ! = \t e n d \xe2\x82\xac \xf0\x9f\x98\x80", "#"},
	{"UTF-16LE", "p\x00@\x00s\x00s\x00'\x00w\x00\"\x00r\x00d\x00/\x00\\\x00<\x00&\x00>\x00\xe9\x00+\x001\x00 \x00~\x00$\x00x\x00`\x00!\x00=\x00\t\x00e\x00n\x00d\x00\xac =\xd8\x00\xde", "#"},
	{"UTF-16BE", "\x00p\x00@\x00s\x00s\x00'\x00w\x00\"\x00r\x00d\x00/\x00\\\x00<\x00&\x00>\x00\xe9\x00+\x001\x00 \x00~\x00$\x00x\x00`\x00!\x00=\x00\t\x00e\x00n\x00d \xac\xd8=\xde\x00", "\x00#\x00"},
	{"as it is", nasty, "#"},
	{"json.Marshal", text(json.Marshal(nasty)), "\"#\""},
	{"strconv.Quote", strconv.Quote(nasty), "\"#\""},
	{"strconv.QuoteToASCII", strconv.QuoteToASCII(nasty), "\"#\""},
	{"url.QueryEscape", url.QueryEscape(nasty), "#"},
	{"url.PathEscape", url.PathEscape(nasty), "#"},
	{"url.URL.Path", (&url.URL{Path: "/" + nasty}).EscapedPath(), "/#"},
	{"url.URL.User", (&url.URL{Scheme: "https", Host: "h", User: url.UserPassword("u", nasty)}).String(), "https://u:#@h"},
	{"lower case escapes", strings.ToLower(url.QueryEscape("P@")) + lowerEscapes(url.QueryEscape(nasty[2:])), "#"},
	{"encodeURIComponent", "p%40ss'w%22rd%2F%5C%3C%26%3E%C3%A9%2B1%20~%24x%60!%3D%09end%E2%82%AC%F0%9F%98%80", "#"},
	{"encodeURI", "p@ss'w%22rd/%5C%3C&%3E%C3%A9+1%20~$x%60!=%09end%E2%82%AC%F0%9F%98%80", "#"},
	{"html.EscapeString", html.EscapeString(nasty), "#"},
	{"template.HTMLEscapeString", template.HTMLEscapeString(nasty), "#"},
	{"xml.EscapeText", xmlText(nasty), "#"},
	{"hex", hex.EncodeToString([]byte(nasty)), "#"},
	{"HEX", strings.ToUpper(hex.EncodeToString([]byte(nasty))), "#"},
	{"base64 URL", base64.URLEncoding.EncodeToString([]byte(nasty)), "#"},
	{"base64 raw", base64.RawStdEncoding.EncodeToString([]byte(nasty)), "#"},
	{"base64 between", base64.StdEncoding.EncodeToString([]byte("{\"password\":\"" + nasty + "\"}")), "eyJwYXNzd29yZCI6In#CJ9"},
	{"base64 URL between", base64.RawURLEncoding.EncodeToString([]byte("12345678" + nasty + "12345678")), "MTIzNDU2Nzh#AxMjM0NTY3OA"},
	{"base64 of base64 between", base64.StdEncoding.EncodeToString([]byte("Basic " + base64.StdEncoding.EncodeToString([]byte("us:"+nasty+"\n")))), "QmFzaWMgZFhNNm#UNnPT0="},
	{"PHP's json_encode", `"p@ss'w\"rd\/\\<&>\u00e9+1 ~$x` + "`" + `!=\tend\u20ac\ud83d\ude00"`, "\"#\""},
	{".NET's JSON", `"p@ss\u0027w\u0022rd/\\\u003C\u0026\u003E\u00E9\u002B1 ~$x\u0060!=\tend\u20AC\uD83D\uDE00"`, "\"#\""},
	{"backwards, by bytes", backwards(nasty), "#"},
	{"coloured letters", "\x1b[1m" + strings.Join(strings.Split(nasty, ""), "\x1b[0m\x1b[38;5;12m"), "\x1b[1m#"},
	{"wrapped by a terminal", nasty[:20] + "\r\n\x1b[K" + nasty[20:], "#"},
	{"a window's title", "\x1b]0;" + nasty + "\x07", "\x1b]0;#\a"},
	{"begun by an escape sequence", "\x1b[" + nasty, "\x1b[#"},
	{"a letter per line", strings.Join(strings.Split(nasty, ""), "\n"), "p\n@\ns\n#"},
}

func text(b []byte, _ error) string { return string(b) }

func lowerEscapes(s string) string {
	return regexp.MustCompile("%..").ReplaceAllStringFunc(s, strings.ToLower)
}

func xmlText(s string) string {
	var b bytes.Buffer
	xml.EscapeText(&b, []byte(s))
	return b.String()
}

func TestWritten(t *testing.T) {
	secrets := []Secret{{Name: "N", Value: nasty}}
	for _, w := range written {
		text := "<< " + w.text + " >>" + settled
		want := "<< " + strings.ReplaceAll(w.shown, "#", "[cleanroom: N]") + " >>" + settled
		writes := [][]string{{text}, strings.Split(text, "")}
		for at := 1; at < len(w.text)+4; at++ { // every place to cut it
			writes = append(writes, []string{text[:at], text[at:]})
		}
		for _, pieces := range writes {
			got, err := redacted(pieces, secrets, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if got != want {
				t.Errorf("%s, in %d writes, the first of %d bytes:\ngot  %q\nwant %q", w.by, len(pieces), len(pieces[0]), got, want)
				break
			}
		}
	}
}

// A value of several lines, and what becomes of them.
func TestLines(t *testing.T) {
	const value = "-----BEGIN KEY-----\nMIIEvQIBADANBgkq\n  indented line\nshort\n-----END KEY-----\n"
	for text, want := range map[string]string{
		value:                                   "#\n",
		strings.ReplaceAll(value, "\n", "\r\n"): "#\r\n",
		strings.ReplaceAll(value, "\n", " "):    "# ",
		strings.ReplaceAll(value, "\n", "  \t\n\n   \x00"): "#  \t\n\n   \x00",
		strings.ReplaceAll(value, "\n", ""):                "#",
		"> MIIEvQIBADANBgkq <":                             "> # <",
		"indented  line":                                   "#",
		"short":                                            "short",
		"-----BEGIN KEY-----":                              "-----BEGIN KEY-----",
		text(json.Marshal(value)):                          `"#\n"`,
		text(json.Marshal(strings.ReplaceAll(value, "\n", "\r\n"))):         `"#\r\n"`,
		base64.StdEncoding.EncodeToString([]byte(value)):                    "#o=",
		base64.StdEncoding.EncodeToString([]byte(strings.TrimSpace(value))): "#",
		hex.EncodeToString([]byte(strings.ReplaceAll(value, "\n", "\r\n"))): "#0d0a",
		backwards(value): "\n#",
	} {
		got, err := redacted([]string{text + settled}, []Secret{{Name: "N", Value: value}}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if want = strings.ReplaceAll(want, "#", "[cleanroom: N]") + settled; got != want {
			t.Errorf("%q:\ngot  %q\nwant %q", text, got, want)
		}
	}
}

// Each alignment of a short value in a longer base64 text, wrapped anywhere.
func TestBase64(t *testing.T) {
	const value = "tr0ub4do"
	for before := range 7 {
		for _, e := range []*base64.Encoding{base64.StdEncoding, base64.RawURLEncoding} {
			whole := e.EncodeToString([]byte(strings.Repeat("\xfb", before) + value + "\xff\xff\xff"))
			from := (before*8 + 5) / 6
			for at := from + early; at < from+10; at++ {
				text := whole[:at] + "\n" + whole[at:]
				got, err := redacted([]string{text + settled}, []Secret{{Name: "N", Value: value}}, Options{})
				if err != nil {
					t.Fatal(err)
				}
				if want := whole[:from] + "[cleanroom: N]" + whole[(before+len(value))*8/6:] + settled; got != want {
					t.Errorf("%q: got %q, want %q", text, got, want)
				}
			}
		}
	}
}

// No form twice, none too short, and how many there are.
func TestForms(t *testing.T) {
	for value, n := range map[string]int{"tr0ub4dorandthree": 25, nasty: 120} {
		seen := map[string]bool{}
		for _, f := range formsOf(value, 8) {
			if seen[f] || len(f) < 8 {
				t.Errorf("%q", f)
			}
			seen[f] = true
		}
		if len(seen) > n {
			t.Errorf("%d forms of %q", len(seen), value)
		}
	}
}
