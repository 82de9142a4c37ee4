package config

import (
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"strings"
	"unicode"
)

func (c *checker) audit(a Audit) {
	if len(a.SignCommand) > 0 {
		c.file("audit.sign_command", a.SignCommand[0])
		c.check(a.SignCommand[0] != "", "audit.sign_command", a.SignCommand, "a program's absolute path and its arguments")
	}
	c.check((len(a.SignCommand) > 0) == (a.PublicKey != ""), "audit.public_key", a.PublicKey, "set together with audit.sign_command")
	if f := a.ProvenanceFile; f != "" {
		c.check(fs.ValidPath(f) && f != "." && !strings.ContainsAny(f, "\\*?[]{}") && !strings.ContainsFunc(f, unicode.IsControl),
			"audit.provenance_file", f, "a clean path in the project's folder, like provenance.intoto.jsonl")
		c.check(a.Provenance, "audit.provenance_file", f, "left out where audit.provenance is false")
	}
	for i, w := range a.Witness {
		at := fmt.Sprintf("audit.witness[%d].", i)
		c.url(at+"url", w.URL)
		c.check(strings.Count(w.PublicKey, "+") >= 2, at+"public_key", w.PublicKey, "as the witness publishes it: NAME+ID+KEY")
	}
	names(c, "audit.forward", a.Forward, func(f Forward) string { return f.Name })
	for i, f := range a.Forward {
		at := fmt.Sprintf("audit.forward[%d].", i)
		c.oneOf(at+"kind", f.Kind, []string{"syslog", "otlp"})
		u, err := url.Parse(f.Address)
		if err != nil {
			u = &url.URL{}
		}
		if f.Kind == "otlp" {
			c.url(at+"address", f.Address)
			c.check(u.RawQuery == "", at+"address", "the query", "left out: what is secret goes into headers_file")
			c.check(u.Scheme == "https" || loopback(u.Hostname()), at+"address", f.Address, "https: records would go over the network in the clear")
		} else {
			c.syslog(at+"address", f.Address, u)
		}
		secured := u.Scheme == "https" || u.Scheme == "tls"
		for name, file := range map[string]string{"ca_file": f.CAFile, "cert_file": f.CertFile, "key_file": f.KeyFile} {
			c.check(file == "" || secured, at+name, file, "left out: without TLS nobody looks at it")
			c.file(at+name, file)
		}
		c.pem(at+"ca_file", f.CAFile)
		c.check((f.CertFile == "") == (f.KeyFile == ""), at+"cert_file", f.CertFile, "set together with key_file")
		c.check(f.HeadersFile == "" || f.Kind == "otlp", at+"headers_file", f.HeadersFile, "left out: only OTLP has headers")
		c.file(at+"headers_file", f.HeadersFile)
		c.positive(at+"timeout", f.Timeout)
	}
}

// syslog checks an address, of which u are the parts. What listens at /dev/log
// takes an older form (RFC 3164, without a host), in which a record would lose
// its index: it needs a socket of its own.
func (c *checker) syslog(name, address string, u *url.URL) {
	const want = "like tls://HOST:6514, tcp://HOST:514, udp://HOST:514 or unix:///PATH"
	plain := u.User == nil && u.RawQuery == "" && u.Fragment == ""
	if u.Scheme == "unix" {
		c.check(plain && u.Host == "" && u.Path != "", name, address, want)
		c.file(name, u.Path)
		c.check(u.Path != "/dev/log" && !strings.HasPrefix(u.Path, "/run/systemd/journal/"), name, address,
			"a socket that takes RFC 5424, which this one does not (rsyslog: imuxsock with UseSpecialParser=\"off\")")
		return
	}
	host, port, err := net.SplitHostPort(u.Host)
	c.check((u.Scheme == "udp" || u.Scheme == "tcp" || u.Scheme == "tls") && plain && u.Path == "" && err == nil && host != "" && port != "",
		name, address, want)
}
