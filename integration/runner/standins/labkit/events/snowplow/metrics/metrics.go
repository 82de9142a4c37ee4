// Package metrics stands in for labkit's numbers about billing events.
package metrics

// CollectorOption sets up a collector.
type CollectorOption struct{}

// WithCollectorNamespace does nothing.
func WithCollectorNamespace(string) (o CollectorOption) { return }

// WithCollectorBatchDeliveryDurationBuckets does nothing.
func WithCollectorBatchDeliveryDurationBuckets([]float64) (o CollectorOption) { return }
