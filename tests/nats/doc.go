// Package nats tests the NATS endpoint over the wire: a built gateway, S3 and SNS
// clients, a real server with JetStream.
package nats
