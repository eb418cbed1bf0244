// Package mqtt tests the MQTT 5 endpoint over the wire: a built gateway, S3 and
// SNS clients, a real Mosquitto.
package mqtt
