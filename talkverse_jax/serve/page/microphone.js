// Runs beside the page's sound: hands over what the microphone hears, 40 ms at a time, as 16-bit samples.

class Microphone extends AudioWorkletProcessor {
  constructor() {
    super();
    this.held = new Int16Array(sampleRate / 25);
    this.count = 0;
  }

  process([[channel]]) {
    for (const value of channel ?? []) {
      this.held[this.count++] = Math.max(-1, Math.min(1, value)) * 32767;
      if (this.count < this.held.length) continue;
      this.port.postMessage(this.held.slice().buffer);
      this.count = 0;
    }
    return true;
  }
}

registerProcessor("microphone", Microphone);
