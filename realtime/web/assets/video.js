// The video: WebRTC where both sides can, motion JPEG otherwise; none while nobody looks.

const FIRST_FRAME_MS = 5000;

class Video {
  constructor(image, video, onChange) {
    this.image = image;
    this.video = video;
    this.onChange = onChange;
    this.wish = 'auto';
    this.running = null; // 'webrtc' | 'mjpeg' | null
    this.canWebrtc = false;
    this.failed = false; // WebRTC did not work here
    this.peer = null;
    this.timer = 0;
    this.image.addEventListener('error', () => {
      if (this.running === 'mjpeg') setTimeout(() => this.running === 'mjpeg' && this.startMjpeg(), 2000);
    });
    document.addEventListener('visibilitychange', () => {
      if (document.hidden) this.stop(); else if (this.wanted) this.start();
    });
    addEventListener('pagehide', () => this.stop());
  }

  start() {
    this.wanted = true;
    if (document.hidden || this.running) return;
    const webrtc = this.canWebrtc && !this.failed && this.wish !== 'mjpeg';
    if (webrtc) this.startWebrtc(); else this.startMjpeg();
  }

  choose(wish) {
    this.wish = wish;
    this.failed = false;
    this.restart();
  }

  restart() {
    this.stop();
    this.start();
  }

  end() {
    this.wanted = false;
    this.stop(true);
  }

  stop(keepPicture = false) {
    clearTimeout(this.timer);
    this.running = null;
    if (this.peer) {
      this.peer.close();
      this.peer = null;
    }
    if (!keepPicture) this.image.removeAttribute('src');
  }

  startMjpeg() {
    this.running = 'mjpeg';
    this.image.src = `stream.mjpg?${Date.now()}`;
    this.image.hidden = false;
    this.video.hidden = true;
    this.onChange();
  }

  async startWebrtc() {
    this.running = 'webrtc';
    this.onChange();
    const peer = this.peer = new RTCPeerConnection();
    const fail = () => {
      if (this.peer !== peer) return;
      this.failed = true;
      this.restart();
    };
    this.timer = setTimeout(fail, FIRST_FRAME_MS);
    peer.addTransceiver('video', { direction: 'recvonly' });
    peer.ontrack = (event) => {
      // Show each frame as it comes: a live picture has no use for a jitter buffer.
      try { event.receiver.jitterBufferTarget = 0; } catch { /* an older browser */ }
      this.video.srcObject = new MediaStream([event.track]);
      this.video.play().catch(() => {});
    };
    this.video.onloadeddata = () => {
      clearTimeout(this.timer);
      this.video.hidden = false;
      this.image.hidden = true;
    };
    peer.onconnectionstatechange = () => {
      if (['failed', 'disconnected', 'closed'].includes(peer.connectionState)) fail();
    };
    try {
      await peer.setLocalDescription(await peer.createOffer());
      await gathered(peer);
      const answer = await fetch('webrtc', {
        method: 'POST', headers: { 'content-type': 'application/sdp' }, body: peer.localDescription.sdp,
      });
      if (!answer.ok) throw new Error(await answer.text());
      await peer.setRemoteDescription({ type: 'answer', sdp: await answer.text() });
    } catch (error) {
      console.info('WebRTC:', error.message);
      fail();
    }
  }
}

function gathered(peer) {
  if (peer.iceGatheringState === 'complete') return Promise.resolve();
  return new Promise((done) => {
    setTimeout(done, 1000);
    peer.addEventListener('icegatheringstatechange', () => peer.iceGatheringState === 'complete' && done());
  });
}
