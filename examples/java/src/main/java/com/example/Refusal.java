package com.example;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Collectors;

/**
 * What an error of a gateway holds.
 *
 * @param code gRPC's
 * @param reason the constant one of docs/errors.md; empty if the error isn't the gateway's
 * @param fields what is at fault, and why
 * @param retryAfter when to come back; null: at any time, or never
 */
record Refusal(String code, String reason, List<String> fields, Duration retryAfter) {
  static Refusal of(StatusRuntimeException error) throws InvalidProtocolBufferException {
    String reason = "";
    List<String> fields = new ArrayList<>();
    Duration retryAfter = null;
    var status = StatusProto.fromThrowable(error); // null where no server answered
    for (Any detail : status == null ? List.<Any>of() : status.getDetailsList()) {
      if (detail.is(ErrorInfo.class)) {
        reason = detail.unpack(ErrorInfo.class).getReason();
      } else if (detail.is(BadRequest.class)) {
        for (var each : detail.unpack(BadRequest.class).getFieldViolationsList()) {
          fields.add(each.getField() + ": " + each.getDescription());
        }
      } else if (detail.is(RetryInfo.class)) {
        var delay = detail.unpack(RetryInfo.class).getRetryDelay();
        retryAfter = Duration.ofSeconds(delay.getSeconds(), delay.getNanos());
      }
    }
    return new Refusal(error.getStatus().getCode().name(), reason, fields, retryAfter);
  }

  @Override
  public String toString() {
    String back = retryAfter == null ? "" : "; come back in " + retryAfter;
    String faults = fields.stream().map(field -> "\n" + field).collect(Collectors.joining());
    return (code + " " + reason).strip() + back + faults;
  }
}
