package tensorboard

import (
	"errors"
	"math"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// Numbers of fields, from event.proto, summary.proto and tensor.proto of TensorBoard
// 2.21.0.
const (
	eventWallTime    = 1 // double, Unix seconds
	eventStep        = 2 // int64
	eventFileVersion = 3 // string
	eventSummary     = 5
	eventSessionLog  = 7

	sessionLogStatus = 1 // 1: START

	summaryValue = 1

	valueTag      = 1
	valueScalar   = 2 // float
	valueImage    = 4
	valueMetadata = 9

	imageHeight = 1
	imageWidth  = 2
	imageColors = 3
	imageBytes  = 4

	metadataPlugin      = 1
	metadataDescription = 3

	pluginName    = 1
	pluginContent = 2
)

// hparams is the plug-in of the HPARAMS tab.
const hparams = "hparams"

func marshalVersion(at time.Time) []byte {
	return appendString(appendTime(nil, eventWallTime, at), eventFileVersion, version)
}

func marshal(e Event) []byte {
	b := appendTime(nil, eventWallTime, e.Time)
	b = appendInt(b, eventStep, e.Step)
	if e.Start {
		return appendBytes(b, eventSessionLog, appendInt(nil, sessionLogStatus, 1))
	}
	var summary []byte
	for _, v := range e.Values {
		summary = appendBytes(summary, summaryValue, marshalValue(v))
	}
	return appendBytes(b, eventSummary, summary)
}

func marshalValue(v Value) []byte {
	b := appendString(nil, valueTag, v.Tag)
	var meta []byte
	if v.hparams != nil {
		plugin := appendString(nil, pluginName, hparams)
		meta = appendBytes(meta, metadataPlugin, appendBytes(plugin, pluginContent, v.hparams))
	}
	if v.Description != "" {
		meta = appendString(meta, metadataDescription, v.Description)
	}
	if meta != nil {
		b = appendBytes(b, valueMetadata, meta)
	}
	switch {
	case v.Scalar != nil:
		b = protowire.AppendTag(b, valueScalar, protowire.Fixed32Type)
		b = protowire.AppendFixed32(b, math.Float32bits(float32(*v.Scalar)))
	case v.Image != nil:
		image := appendInt(nil, imageHeight, int64(v.Image.Height))
		image = appendInt(image, imageWidth, int64(v.Image.Width))
		image = appendInt(image, imageColors, int64(v.Image.Channels))
		b = appendBytes(b, valueImage, appendBytes(image, imageBytes, v.Image.PNG))
	}
	return b
}

func appendTime(b []byte, field protowire.Number, at time.Time) []byte {
	return appendDouble(b, field, float64(at.UnixMicro())/1e6)
}

func appendDouble(b []byte, field protowire.Number, v float64) []byte {
	return protowire.AppendFixed64(protowire.AppendTag(b, field, protowire.Fixed64Type), math.Float64bits(v))
}

func appendInt(b []byte, field protowire.Number, v int64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), uint64(v))
}

func appendString(b []byte, field protowire.Number, v string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), v)
}

func appendBytes(b []byte, field protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), v)
}

func unmarshal(data []byte) (Event, error) {
	var e Event
	err := fields(data, func(field protowire.Number, number uint64, text []byte) error {
		switch field {
		case eventWallTime:
			e.Time = time.UnixMicro(int64(math.Round(math.Float64frombits(number) * 1e6)))
		case eventStep:
			e.Step = int64(number)
		case eventSessionLog:
			return fields(text, func(field protowire.Number, number uint64, _ []byte) error {
				e.Start = e.Start || field == sessionLogStatus && number == 1
				return nil
			})
		case eventSummary:
			return fields(text, func(field protowire.Number, _ uint64, text []byte) error {
				if field != summaryValue {
					return nil
				}
				v, err := unmarshalValue(text)
				e.Values = append(e.Values, v)
				return err
			})
		}
		return nil
	})
	return e, err
}

func unmarshalValue(data []byte) (Value, error) {
	var v Value
	err := fields(data, func(field protowire.Number, number uint64, text []byte) error {
		switch field {
		case valueTag:
			v.Tag = string(text)
		case valueScalar:
			f := float64(math.Float32frombits(uint32(number)))
			v.Scalar = &f
		case valueImage:
			v.Image = &Picture{}
			return fields(text, func(field protowire.Number, number uint64, _ []byte) error {
				switch field {
				case imageHeight:
					v.Image.Height = int(number)
				case imageWidth:
					v.Image.Width = int(number)
				case imageColors:
					v.Image.Channels = int(number)
				}
				return nil
			})
		case valueMetadata:
			return fields(text, func(field protowire.Number, _ uint64, text []byte) error {
				if field == metadataDescription {
					v.Description = string(text)
				}
				return nil
			})
		}
		return nil
	})
	return v, err
}

// fields calls see with the fields of a message in protobuf: a number, or the bytes of
// a string or message.
func fields(data []byte, see func(field protowire.Number, number uint64, text []byte) error) error {
	for len(data) > 0 {
		field, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			return protowire.ParseError(n)
		}
		data = data[n:]
		var number uint64
		var text []byte
		switch kind {
		case protowire.VarintType:
			number, n = protowire.ConsumeVarint(data)
		case protowire.Fixed64Type:
			number, n = protowire.ConsumeFixed64(data)
		case protowire.Fixed32Type:
			var short uint32
			short, n = protowire.ConsumeFixed32(data)
			number = uint64(short)
		case protowire.BytesType:
			text, n = protowire.ConsumeBytes(data)
		default:
			return errors.New("a group in an event")
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		data = data[n:]
		if err := see(field, number, text); err != nil {
			return err
		}
	}
	return nil
}
