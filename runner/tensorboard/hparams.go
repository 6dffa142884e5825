package tensorboard

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// Numbers of fields, from api.proto and plugin_data.proto of TensorBoard's plug-in
// hparams.
const (
	pluginExperiment   = 2
	pluginSessionStart = 3
	pluginSessionEnd   = 4

	startHparams = 1 // map<string, google.protobuf.Value>
	startGroup   = 4
	startTime    = 5 // double, Unix seconds

	mapKey   = 1
	mapValue = 2

	valueNumber = 2 // of google.protobuf.Value
	valueString = 3
	valueBool   = 4

	endStatus = 1
	endTime   = 2 // double, Unix seconds

	experimentHparams = 4
	experimentMetrics = 5
	experimentName    = 6

	hparamName    = 1
	hparamType    = 4
	hparamDiffers = 7 // bool: it has more than one value

	typeString = 1
	typeBool   = 2
	typeNumber = 3

	metricName    = 1
	metricDisplay = 3
	nameTag       = 2
)

// Status is how a session of the HPARAMS tab ended.
type Status int

// Success and Failure are ends; Running is a session that continues later.
const (
	Success Status = 1
	Failure Status = 2
	Running Status = 3
)

// SessionStart makes a directory a session of the HPARAMS tab: a row of its table.
// Sessions with one group are one row, whose metrics are the means of the sessions'
// last values; their hyperparameters have to be the same. It has to be in the directory
// of the scalars, at step 0, before them. A hyperparameter is a float64, a bool or a
// string; any other value is its text.
func SessionStart(group string, parameters map[string]any, at time.Time) Value {
	var start []byte
	for _, key := range slices.Sorted(maps.Keys(parameters)) {
		var value []byte
		switch v := parameters[key].(type) {
		case float64:
			value = appendDouble(nil, valueNumber, v)
		case bool:
			n := int64(0)
			if v {
				n = 1
			}
			value = appendInt(nil, valueBool, n)
		default:
			value = appendString(nil, valueString, fmt.Sprint(v))
		}
		start = appendBytes(start, startHparams, appendBytes(appendString(nil, mapKey, key), mapValue, value))
	}
	start = appendString(start, startGroup, group)
	start = appendTime(start, startTime, at)
	return ofHparams("_hparams_/session_start_info", pluginSessionStart, start)
}

// SessionEnd says how a session ended. Without one its status is unknown.
func SessionEnd(s Status, at time.Time) Value {
	return ofHparams("_hparams_/session_end_info", pluginSessionEnd, appendTime(appendInt(nil, endStatus, int64(s)), endTime, at))
}

// Experiment says what the columns of the HPARAMS tab are: hyperparameters, each with a
// value that shows its type, and the metrics, which are scalars, by their tags. TensorBoard
// takes the columns from the first one that it finds below its directory. Without any it
// shows all hyperparameters and all scalars.
func Experiment(name string, parameters map[string]any, metrics []string) Value {
	var e []byte
	for _, key := range slices.Sorted(maps.Keys(parameters)) {
		kind := int64(typeString)
		switch parameters[key].(type) {
		case float64:
			kind = typeNumber
		case bool:
			kind = typeBool
		}
		h := appendInt(appendString(nil, hparamName, key), hparamType, kind)
		e = appendBytes(e, experimentHparams, appendInt(h, hparamDiffers, 1))
	}
	for _, tag := range metrics {
		m := appendBytes(nil, metricName, appendString(nil, nameTag, tag))
		e = appendBytes(e, experimentMetrics, appendString(m, metricDisplay, tag))
	}
	return ofHparams("_hparams_/experiment", pluginExperiment, appendString(e, experimentName, name))
}

func ofHparams(tag string, field protowire.Number, content []byte) Value {
	return Value{Tag: tag, hparams: appendBytes(nil, field, content)}
}
