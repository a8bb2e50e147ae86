-- The response gate: the first filter of the list, so the last to see a response.
--
-- It lets a response through only if
--   (a) the request was never let on to an upstream: then this is a reply of Envoy's own, or
--   (b) the gate has said "released" after recording what is in it.
-- Anything else means that ext_proc ended its stream without an answer (a clean close passes by design, see
-- external_processor.proto) or failed half way: nothing of the upstream may reach the caller.
local REFUSAL = '{"type":"error","error":{"type":"api_error","code":"response_not_released",' ..
  '"message":"The model\'s answer was not released by the gateway."}}'

function envoy_on_response(handle)
  local said = handle:streamInfo():dynamicMetadata():get("affidavit") or {}
  if said["decision"] ~= "allow" or said["response"] == "released" then
    return
  end
  local headers = handle:headers()
  local names = {}
  for name, _ in pairs(headers) do
    if name:sub(1, 1) ~= ":" then
      names[#names + 1] = name
    end
  end
  for _, name in ipairs(names) do
    headers:remove(name)
  end
  headers:replace(":status", "502")
  headers:replace("content-type", "application/json")
  -- true: there is a body to replace even if the response had none. It is buffered whole before anything is sent.
  local size = handle:body(true):setBytes(REFUSAL)
  headers:replace("content-length", tostring(size))
end
