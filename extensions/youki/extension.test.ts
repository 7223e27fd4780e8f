import { testUpstream } from '@flatcar/testing';

testUpstream(import.meta.dirname, {
  programs: ['/usr/bin/youki'],
});
