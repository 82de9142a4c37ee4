// Package snowplow stands in for labkit's billing events. NewEmitter refuses, so nothing is ever sent.
package snowplow

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"gitlab.com/gitlab-org/labkit/v2/events/snowplow/metrics"
	"gitlab.com/gitlab-org/labkit/v2/events/snowplow/oidc"
)

// SendResult says what became of some events.
type SendResult struct {
	EventCount, StatusCode int
	Err                    error
}

// SendCallback is told of every sending.
type SendCallback func(successes, failures []SendResult)

// Emitter would send events.
type Emitter struct{ metrics prometheus.Collector }

// EmitterOption sets up an Emitter.
type EmitterOption struct{}

// WithCallback does nothing.
func WithCallback(SendCallback) (o EmitterOption) { return }

// WithTokenSource does nothing.
func WithTokenSource(*oidc.Source) (o EmitterOption) { return }

// WithMetricsCollectorOptions does nothing.
func WithMetricsCollectorOptions(...metrics.CollectorOption) (o EmitterOption) { return }

// NewEmitter fails.
func NewEmitter(string, ...EmitterOption) (*Emitter, error) {
	return nil, errors.New("billing events are not in this build of gitlab-runner: labkit is a stand-in")
}

// Collector returns nothing to collect.
func (e *Emitter) Collector() prometheus.Collector { return e.metrics }

// Tracker would queue events.
type Tracker struct{}

// NewTracker returns a Tracker.
func NewTracker(string, *Emitter) (*Tracker, error) { return &Tracker{}, nil }

// TrackBillingEventWithOptionalInput does nothing.
func (*Tracker) TrackBillingEventWithOptionalInput(BillingEventRequiredInput, BillingEventOptionalInput) error {
	return nil
}

// Stop does nothing.
func (*Tracker) Stop() {}

// BillingEventRequiredInput is what every event has.
type BillingEventRequiredInput struct {
	Category, EventType, Realm, UnitOfMeasure string
	Quantity                                  float64
}

// BillingEventOptionalInput is what an event may have.
type BillingEventOptionalInput struct {
	Subject, DeploymentType, InstanceID, UniqueInstanceID   string
	ProjectID, NamespaceID, RootNamespaceID, OrganizationID int64
	Metadata                                                map[string]any
}
