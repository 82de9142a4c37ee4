package forward

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	collector "go.opentelemetry.io/proto/slim/otlp/collector/logs/v1"
	common "go.opentelemetry.io/proto/slim/otlp/common/v1"
	logs "go.opentelemetry.io/proto/slim/otlp/logs/v1"
	resource "go.opentelemetry.io/proto/slim/otlp/resource/v1"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"

	"cleanroom/config"
	"cleanroom/executor/https"
)

const protobuf = "application/x-protobuf"

// otlpSender speaks OTLP 1 over HTTP, in protobuf
// (opentelemetry.io/docs/specs/otlp, "OTLP/HTTP"). OTLP over gRPC is left
// out: receivers take both, and HTTP needs no library but Go's.
type otlpSender struct {
	source
	url      string
	headers  http.Header
	client   *http.Client
	resource *resource.Resource
}

func newOTLP(c config.Forward, from source) (sender, error) {
	u, err := url.Parse(c.Address)
	if err != nil {
		return nil, err
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/v1/logs"
	}
	t, err := transport(c)
	if err != nil {
		return nil, err
	}
	o := &otlpSender{source: from, url: u.String(), client: https.Client(t)}
	if o.headers, err = headers(c.HeadersFile); err != nil {
		return nil, err
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	o.resource = &resource.Resource{Attributes: []*common.KeyValue{
		text("service.name", "cleanroom"), text("service.version", from.version), text("host.name", host),
	}}
	return o, nil
}

func (*otlpSender) most() (records, bytes int) { return 512, 256 << 10 }

// record is a log record. The body is the audit record to the byte; its uid
// is how OpenTelemetry's receivers know what came twice (semantic
// conventions, log.record.uid).
func (s source) record(i item) *logs.LogRecord {
	at := uint64(i.Time.UnixNano())
	r := &logs.LogRecord{
		TimeUnixNano: at, ObservedTimeUnixNano: at,
		SeverityNumber: logs.SeverityNumber_SEVERITY_NUMBER_INFO, SeverityText: "INFO",
		EventName: "cleanroom.audit.record",
		Body:      value(string(i.Body)),
		Attributes: []*common.KeyValue{
			text("cleanroom.log.origin", s.origin),
			{Key: "cleanroom.log.index", Value: &common.AnyValue{Value: &common.AnyValue_IntValue{IntValue: i.Index}}},
			text("cleanroom.log.leaf", i.leaf),
			text("log.record.uid", s.origin+"/"+strconv.FormatInt(i.Index, 10)+"/"+i.leaf),
		},
	}
	if i.notice != "" {
		r.SeverityNumber, r.SeverityText = logs.SeverityNumber_SEVERITY_NUMBER_ERROR, "ERROR"
		r.EventName = "cleanroom.audit.notice"
		r.Attributes = append(r.Attributes, text("cleanroom.log.notice", i.notice))
	}
	return r
}

func text(key, v string) *common.KeyValue { return &common.KeyValue{Key: key, Value: value(v)} }

func value(v string) *common.AnyValue {
	return &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: v}}
}

func (o *otlpSender) send(ctx context.Context, batch []item) error {
	scope := &logs.ScopeLogs{Scope: &common.InstrumentationScope{Name: "cleanroom/audit"}}
	for _, i := range batch {
		scope.LogRecords = append(scope.LogRecords, o.record(i))
	}
	body, err := proto.Marshal(&collector.ExportLogsServiceRequest{
		ResourceLogs: []*logs.ResourceLogs{{Resource: o.resource, ScopeLogs: []*logs.ScopeLogs{scope}}},
	})
	if err != nil { // a text that is no UTF-8, say
		return &refusal{len(batch), err.Error()}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, o.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header = o.headers.Clone()
	req.Header.Set("Content-Type", protobuf)
	req.Header.Set("User-Agent", "cleanroom")
	resp, err := o.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return failure(resp, answer, len(batch))
	}
	return accepted(resp, answer, len(batch))
}

// accepted looks for a partial success in an answer of 2xx. One that is no
// OTLP is no acknowledgement: a proxy's page for logging in comes with 200, too.
func accepted(resp *http.Response, answer []byte, sent int) error {
	var got collector.ExportLogsServiceResponse
	if len(answer) > 0 && resp.Header.Get("Content-Type") != protobuf || proto.Unmarshal(answer, &got) != nil {
		return fmt.Errorf("%s in %.60q, not in %s: is this an OTLP receiver?", resp.Status, resp.Header.Get("Content-Type"), protobuf)
	}
	if n := got.GetPartialSuccess().GetRejectedLogRecords(); n > 0 {
		return &refusal{int(min(n, int64(sent))), "partial success: " + got.GetPartialSuccess().GetErrorMessage()}
	}
	return nil
}

// failure sorts what is a record's fault from what is the receiver's, or of
// who configured us: with a wrong token or path, every record would be refused.
func failure(resp *http.Response, answer []byte, sent int) error {
	words := string(answer)
	var s status.Status
	if resp.Header.Get("Content-Type") == protobuf && proto.Unmarshal(answer, &s) == nil {
		words = s.GetMessage()
	}
	err := errors.New(clean(resp.Status + ": " + words))
	switch resp.StatusCode {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return &refusal{sent, err.Error()}
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("%w (look at headers_file or cert_file)", err)
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return &away{err, retryAfter(resp.Header.Get("Retry-After"))}
	}
	return err
}

// retryAfter reads seconds or a date (RFC 9110, 10.2.3).
func retryAfter(text string) time.Duration {
	if n, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	return time.Until(at)
}
